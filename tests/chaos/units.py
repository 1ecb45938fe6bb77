"""What is published: messages, chains and chords, each with keys of its own."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from celery import chain, chord, group
from celery.canvas import Signature

from tests.chaos.tasks import TASKS

WEIGHTS = {"transactional": 6, "HOLD": 2, "RETRY": 2, "ask": 2}
SHAPES = {"message": 84, "chain": 10, "chord": 6}


@dataclass(frozen=True)
class Unit:
    """One intended piece of work, published one to five times.

    Attributes:
        name: With a dot, the prefix of its keys.
        shape: A message, a chain of its steps, or a chord whose body is the last step.
        promises: One for each step.
        copies: How often it is published.
        same_id: Whether all copies of a message have one task id, as a publisher's retry has.
        at_once: Whether all copies are published at the same time.
    """

    name: str
    shape: str
    promises: tuple[str, ...]
    copies: int
    same_id: bool
    at_once: bool

    @property
    def keys(self) -> list[str]:
        return [f"{self.name}.{number}" for number in range(len(self.promises))]

    def previous(self, number: int) -> object:
        """What the step gets from those before it: their results, which are their keys."""
        if self.shape == "chain" and number:
            return self.keys[number - 1]
        if self.shape == "chord" and number == len(self.promises) - 1:
            return self.keys[:-1]
        return None

    def signature(self) -> Signature:
        """A new canvas each time: the ids in it are frozen when it is published."""
        steps = [
            TASKS[promise].s(key=key) for promise, key in zip(self.promises, self.keys, strict=True)
        ]
        if self.shape == "message":
            return steps[0].set(task_id=self.name) if self.same_id else steps[0]
        if self.shape == "chain":
            return chain(*steps)
        *members, body = steps
        return chord(group(members), body)


#: Its first step is frozen while its copies come, so that even a storm of seconds defers a chain.
FIRST = Unit("chain-0", "chain", ("transactional", "transactional"), 4, same_id=False, at_once=True)


def units(chance: random.Random) -> Iterator[Unit]:
    """Units without end; one seed, one sequence."""
    yield FIRST
    number = 0
    while True:
        number += 1
        [shape] = chance.choices(list(SHAPES), SHAPES.values())
        steps = {"message": 1, "chain": chance.randint(2, 3), "chord": chance.randint(3, 4)}[shape]
        yield Unit(
            name=f"{shape}-{number}",
            shape=shape,
            promises=tuple(chance.choices(list(WEIGHTS), WEIGHTS.values(), k=steps)),
            copies=chance.randint(1, 5),
            same_id=chance.random() < 0.5,
            at_once=chance.random() < 0.2,
        )
