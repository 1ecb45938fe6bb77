"""Calls beside each other, in rounds that are interleaved.

In each round every call is made so many times, one after the other in an order of chance. A ratio
is the median over the rounds of one median by another of the same round, so that what else runs on
the machine strikes both. What is measured against itself (A/A) says how far a ratio is to be
trusted.
"""

from __future__ import annotations

import gc
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from math import inf
from statistics import median, quantiles
from typing import Any

#: So far from 1 may an A/A control be.
TRUSTED = 0.10
#: Keys that no call has had.
NUMBERS = iter(range(1, sys.maxsize))

Clock = Callable[[], float]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """How long a part may take.

    Attributes:
        rounds: At most so many, within ``seconds``.
        calls: Of each kind in a round.
        rows: The sizes of the table, for the part that fills it.
    """

    rounds: int
    calls: int
    seconds: float
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        call: Called with a number, which is its key.
        base: The name of what it is compared with.
        again: Whether it comes after the others, whose key is known by then.
    """

    name: str
    call: Callable[[int], Any]
    base: str
    again: bool = False


class Rounds:
    """Every subject, so many rounds of so many calls; no round begins after ``seconds``."""

    def __init__(
        self,
        subjects: Iterable[Subject],
        *,
        rounds: int,
        calls: int,
        seconds: float = inf,
        server_cpu: Clock | None = None,
    ) -> None:
        self.subjects = {subject.name: subject for subject in subjects}
        self._clocks = {"python": time.process_time}
        if server_cpu:
            self._clocks["server"] = server_cpu
        #: Seconds for one call, of each round.
        self.times: dict[str, list[float]] = defaultdict(list)
        self.cpu: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._round(1)  # connections, plans and caches are there
        self.times.clear()
        self.cpu.clear()
        end = time.monotonic() + seconds
        for self.rounds in range(1, rounds + 1):
            self._round(calls)
            if time.monotonic() > end:
                break

    def _round(self, calls: int) -> None:
        times: dict[str, list[float]] = defaultdict(list)
        cpu: dict[tuple[str, str], float] = defaultdict(float)
        gc.collect()
        gc.disable()
        for number in islice(NUMBERS, calls):
            order = random.sample(list(self.subjects.values()), len(self.subjects))
            for subject in sorted(order, key=lambda subject: subject.again):
                before = {name: clock() for name, clock in self._clocks.items()}
                start = time.perf_counter()
                subject.call(number)
                times[subject.name].append(time.perf_counter() - start)
                for name, clock in self._clocks.items():
                    cpu[subject.name, name] += (clock() - before[name]) / calls
        gc.enable()
        for name in self.subjects:
            self.times[name].append(median(times[name]))
        for at, spent in cpu.items():
            self.cpu[at].append(spent)

    def microseconds(self, name: str) -> float:
        """One call, by the clock on the wall."""
        return 1e6 * median(self.times[name])

    def ratio(self, name: str) -> float:
        """Its time by that of what it is compared with."""
        return median(self._ratios(name))

    def spread(self, name: str) -> tuple[float, float]:
        """Between which ratios half of the rounds lie."""
        ratios = self._ratios(name)
        if len(ratios) == 1:
            return ratios[0], ratios[0]
        low, _, high = quantiles(ratios, n=4)
        return low, high

    def cpu_over(self, name: str, where: str = "python") -> float:
        """Microseconds of a processor for each call, over what it is compared with."""
        mine, base = self.cpu[name, where], self.cpu[self.subjects[name].base, where]
        return 1e6 * median(one - other for one, other in zip(mine, base, strict=True))

    def _ratios(self, name: str) -> list[float]:
        pairs = zip(self.times[name], self.times[self.subjects[name].base], strict=True)
        return [mine / base for mine, base in pairs]
