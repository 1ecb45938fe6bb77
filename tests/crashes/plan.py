"""Which points of a delivery are struck, by what: found by recording one that nothing strikes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path

from tests.crashes.course import Course, Point
from tests.crashes.faults import Again, Fault, phase
from tests.crashes.situations import PUBLISHED, Situation, Work
from tests.harness.wire import Wire

#: Every point by every fault with every redelivery; else a part of this product, see `planned`.
IS_FULL = os.environ.get("CRASHES") == "all"


@dataclass(frozen=True)
class Strike:
    """A point, by its number from 1, what strikes there, and when the message comes again."""

    number: int
    fault: Fault
    again: Again


class Recorder:
    """The points of deliveries that nothing strikes, of each job recorded once in a process."""

    _known: dict[str, list[Point]] = {}

    def __init__(self, wire: Wire, folder: Path) -> None:
        self.wire, self._folder = wire, folder

    def work(self, key: str) -> Work:
        """A message of its own."""
        return Work(key, self._folder / key)

    def points(self, situation: Situation) -> list[Point]:
        if situation.name not in self._known:
            work = self.work(f"{situation.name} unstruck")
            situation.before(work)
            course = Course(situation, work, self.wire, number=0)
            try:
                assert not course.is_held()
            finally:
                course.end()
            self._known[situation.name] = course.points
        return self._known[situation.name]

    def strikes(self, situation: Situation) -> list[Strike]:
        """What strikes a job.

        In full, the whole product. Else a part of it: each point of a published job once at least,
        and each phase of a published job by each fault with each redelivery; of the other jobs only
        every third point from where on they differ from all published ones.
        """
        points = self.points(situation)
        numbers = list(range(1, len(points) + 1))
        if IS_FULL:
            strikes = [Strike(*each) for each in product(numbers, Fault, Again)]
        elif situation in PUBLISHED:
            policy = situation.policy(self.work(""))
            phases = groupby(numbers, key=lambda number: phase(points[:number], policy))
            strikes = [each for _, group in phases for each in _dealt(list(group), whole=True)]
        else:
            first = max(_common(points, self.points(sibling)) for sibling in PUBLISHED)
            strikes = list(_dealt(numbers[first::3]))
        return [each for each in strikes if each.fault.can_strike(points[each.number - 1])]


def _dealt(numbers: list[int], *, whole: bool = False) -> Iterator[Strike]:
    """Faults and redeliveries dealt to the points like cards; the whole pack at least, or not."""
    cards = list(product(Again, Fault))
    for turn in range(max(len(numbers), len(cards) if whole else 0)):
        again, fault = cards[turn % len(cards)]
        yield Strike(numbers[turn % len(numbers)], fault, again)


def _common(points: list[Point], others: list[Point]) -> int:
    """How many points two courses have in common at their beginning: 0 where they are the same,
    for then it is what stands before that differs."""
    pairs = zip(points, others, strict=False)
    return next((n for n, (one, other) in enumerate(pairs) if one != other), 0)
