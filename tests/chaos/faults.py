"""Lets the faults strike, and remembers which keys each has struck."""

import os
import random
import signal
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

from tests.chaos.deck import AIMED, SENDING, cards, is_kill
from tests.chaos.journal import Journal
from tests.chaos.outside import Outside
from tests.chaos.publisher import Publisher
from tests.chaos.stage import Stage
from tests.chaos.units import OUTSIDE, PROMISES


class Faults:
    """Draws a card whenever one is due.

    Attributes:
        struck: How often each fault has struck; one that was ordered strikes later, or never.
        keys: The keys whose messages were being delivered there and then.
        kills: How many SIGKILLs those are.
    """

    def __init__(self, seed: int, stage: Stage, outside: Outside, state: Path) -> None:
        self.struck: Counter[str] = Counter()
        self.keys: defaultdict[str, set[str]] = defaultdict(set)
        self.kills = 0
        self.drawn = 0
        self.journal = Journal(state, self._noted)
        self._stage = stage
        self._outside = outside
        self._ordered: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._cards = cards(random.Random(seed))

    def strike_due(self, due: int, publisher: Publisher) -> None:
        """Draw cards until so many are drawn."""
        while self.drawn < due:
            self._strike(next(self._cards), publisher)
            self.drawn += 1

    def watch(self) -> None:
        """Read what has happened, and bring back the workers that are dead."""
        self.journal.follow()
        for fault, key, _pid in self._outside.struck():
            self._count(fault, [key])
        self._stage.revive()

    def _strike(self, card: str, publisher: Publisher) -> None:
        if card in AIMED or card in SENDING:
            promises = OUTSIDE if card in SENDING else PROMISES
            self._ordered[card] += 1  # each promise in turn
            publisher.order(card, promises[self._ordered[card] % len(promises)])
        elif card == "end a backend":
            with suppress(Exception):  # there may be no server to ask
                if self._stage.end_a_backend(self._chance.random()):
                    self._count(card, [])
        elif card == "crash PostgreSQL":
            self._count(card, self._running())
            self._stage.crash_postgresql()
        elif card == "crash the broker":
            keys = self._running()
            self._count(self._stage.crash_broker(), keys)
        else:
            self._strike_blindly(card)

    def _strike_blindly(self, card: str) -> None:
        worker = self._chance.choice(self._stage.workers)
        pids = [pid for pid in list(self.journal.running) if worker.owns(pid)]
        if card == "kill process":
            if not pids:
                return
            pids = [self._chance.choice(pids)]
            with suppress(ProcessLookupError):
                os.kill(pids[0], signal.SIGKILL)
        self._count(f"{card} whatever it does", [self.journal.running.get(pid) for pid in pids])
        if card == "kill worker":
            self._stage.kill_worker(worker)
        elif card == "freeze worker":
            self._stage.freeze(worker.pid, group=True)

    def _noted(self, fault: str, key: str, pid: int) -> None:
        self._count(fault, [key])
        if fault.startswith("freeze"):
            self._stage.freeze(pid, group=False)

    def _running(self) -> list[str | None]:
        self.journal.follow()
        alive = self._stage.worker_of
        return [key for pid, key in list(self.journal.running.items()) if alive(pid)]

    def _count(self, fault: str, keys: list[str | None]) -> None:
        self.struck[fault] += 1
        self.kills += is_kill(fault)
        self.keys[fault].update(key for key in keys if key)
