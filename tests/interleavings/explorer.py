"""All schedules of a situation, depth first, and one of them again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from types import SimpleNamespace

import pytest

from idempotency import parking
from tests.interleavings.actors import CUTS, Actor, Fate
from tests.interleavings.situation import Scene, Situation
from tests.interleavings.stage import Stage, stage

#: Of the schedules of this process: each has a key of its own.
_numbers = count(1)

SNIPPET = """
import pytest

from tests.interleavings.explorer import replay


@pytest.mark.django_db(transaction=True)
def test_the_schedule():
    replay("{name}", "{schedule}")
"""


class BrokenPromise(AssertionError):
    """A schedule after which the oracle says no. The message holds a test that repeats it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An actor that is let go, what becomes of its message, and the message."""

    actor: int
    fate: Fate
    message: str

    def __str__(self) -> str:
        return f"{self.actor}{self.fate}"


@dataclass
class Decision:
    """What could be chosen in one place of a schedule, and how far the search is with it."""

    choices: list[Choice]
    number: int = 0

    @property
    def chosen(self) -> Choice:
        return self.choices[self.number]


@dataclass
class Budget:
    """What is left to a schedule."""

    faults: int
    preemptions: int | None
    current: int | None = None

    def choices(self, ready: Sequence[Actor], situation: Situation) -> list[Choice]:
        """What may come next: the actor that is running first, then who preempts it."""
        runs_on = any(actor.index == self.current for actor in ready)
        found = []
        for actor in sorted(ready, key=lambda a: (a.index != self.current, a.index)):
            if runs_on and actor.index != self.current and self.preemptions == 0:
                break
            message = actor.at or ""
            fates = [Fate.SENT]
            if self.faults and actor.index < situation.deliveries:
                fates += [f for f in situation.faults if f not in CUTS or actor.sends]
            found += [Choice(actor.index, fate, message) for fate in fates]
        return found

    def spend(self, choice: Choice, ready: Sequence[Actor]) -> None:
        is_preempted = any(actor.index == self.current for actor in ready)
        if self.preemptions and is_preempted and choice.actor != self.current:
            self.preemptions -= 1
        self.faults -= choice.fate is not Fate.SENT
        self.current = choice.actor


@dataclass
class Explored:
    """What a search came to."""

    name: str
    limit: str
    schedules: int = 0
    #: How often what the situation counts has happened.
    noted: dict[str, int] = field(default_factory=dict)

    def add(self, scene: Scene) -> None:
        self.schedules += 1
        for what in scene.noted:
            self.noted[what] = self.noted.get(what, 0) + 1

    def __str__(self) -> str:
        noted = "".join(f", {number} with {what}" for what, number in sorted(self.noted.items()))
        return f"{self.schedules:6} schedules  {self.name} ({self.limit}{noted})"


def preemptions_of(situation: Situation) -> int | None:
    """The limit of a situation; PREEMPTIONS raises it where there is one."""
    if situation.preemptions is None:
        return None
    return max(situation.preemptions, int(os.environ.get("PREEMPTIONS", "0")))


def explore(situation: Situation) -> Explored:
    """Go through all schedules of a situation.

    Raises:
        BrokenPromise: After one of them the oracle says no.
    """
    preemptions = preemptions_of(situation)
    points = "every message" if situation.all_points else "every message that another can see"
    limit = "all" if preemptions is None else f"at most {preemptions} preemptions"
    explored = Explored(situation.name, f"{limit}, {points}")
    path: list[Decision] = []
    with _prepared(situation) as on:
        while True:
            budget = Budget(faults=1 if situation.faults else 0, preemptions=preemptions)
            explored.add(play(on, situation, partial(_search, path, count(), budget, situation)))
            while path and path[-1].number == len(path[-1].choices) - 1:
                path.pop()
            if not path:
                return explored
            path[-1].number += 1


def _search(
    path: list[Decision],
    places: Iterator[int],
    budget: Budget,
    situation: Situation,
    ready: Sequence[Actor],
) -> Choice:
    """As chosen on this path; behind its end, the first choice."""
    place, choices = next(places), budget.choices(ready, situation)
    if place == len(path):
        path.append(Decision(choices))
    assert path[place].choices == choices, (
        f"The same schedule went another way: {choices}, not {path[place].choices}."
    )
    budget.spend(path[place].chosen, ready)
    return path[place].chosen


def replay(name: str, schedule: str) -> None:
    """One schedule of a situation again. Who cannot go where the schedule names it, because the
    code is not what it was, is passed over; what is left after its end goes on in order.

    Raises:
        BrokenPromise: As it did before.
    """
    from tests.interleavings.situations import SITUATIONS

    situation = SITUATIONS[name]
    tokens = [(int(token[:1]), Fate(token[1:])) for token in schedule.split()]

    def choose(ready: Sequence[Actor]) -> Choice:
        while tokens:
            index, fate = tokens.pop(0)
            for actor in ready:
                if actor.index == index:
                    return Choice(index, fate, actor.at or "")
        return Choice(ready[0].index, Fate.SENT, ready[0].at or "")

    with _prepared(situation) as on:
        play(on, situation, choose)


@contextmanager
def _prepared(situation: Situation) -> Iterator[Stage]:
    with ExitStack() as around:
        for enter in situation.around:
            around.enter_context(enter())
        yield around.enter_context(stage(len(situation.acts), all_points=situation.all_points))


def play(on: Stage, situation: Situation, choose: Callable[[Sequence[Actor]], Choice]) -> Scene:
    """One schedule from its beginning to the oracle."""
    scene, chosen = Scene(next(_numbers), situation), []
    if situation.before is not None:
        situation.before(scene)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parking, "broker", SimpleNamespace(publish=scene.published.append))
        on.begin([partial(act, scene, index) for index, act in enumerate(situation.acts)])
        while ready := on.ready():
            choice = choose(ready)
            chosen.append(choice)
            on.let_go(on.actors[choice.actor], choice.fate)
        scene.outcomes = [actor.outcome for actor in on.actors]
        try:
            situation.check(scene)
        except Exception as broken:  # whatever the oracle meets, the schedule is what tells of it
            raise BrokenPromise(_told(situation, scene, chosen, broken)) from broken
        finally:
            scene.clear()
    return scene


def _told(situation: Situation, scene: Scene, chosen: list[Choice], broken: Exception) -> str:
    steps = "".join(f"\n  {c!s:3} {c.message[:100]}" for c in chosen)
    ends = "".join(f"\n  {n}   {end!r}" for n, end in enumerate(scene.outcomes))
    snippet = SNIPPET.format(name=situation.name, schedule=" ".join(map(str, chosen)))
    return f"{broken!r}\nThe schedule:{steps}\nThe ends:{ends}\nTo repeat it alone:\n{snippet}"
