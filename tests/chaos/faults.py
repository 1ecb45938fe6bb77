"""Lets the faults strike, and remembers which keys each has struck."""

import os
import random
import signal
import threading
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

import psycopg

from tests.chaos.deck import Card, cards, is_kill
from tests.chaos.journal import Journal
from tests.chaos.outside import Outside
from tests.chaos.publisher import Publisher
from tests.chaos.stage import Stage


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
        self._counting = threading.Lock()
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

    def _strike(self, card: Card, publisher: Publisher) -> None:
        fault = card.fault
        if card.promise:
            publisher.order(fault, card.promise)
        elif fault == "end a backend":
            with suppress(psycopg.Error):  # there may be no server to ask
                if self._stage.end_a_backend(self._chance.random()):
                    self._count(fault, [])
        elif fault == "crash PostgreSQL":
            self._count(fault, self._running())
            self._stage.crash_postgresql()
        elif fault == "crash the broker":
            keys = self._running()
            self._count(self._stage.crash_broker(), keys)
        else:
            self._strike_blindly(fault)

    def _strike_blindly(self, fault: str) -> None:
        if fault == "kill process":
            self._kill_a_process()
            return
        worker = self._chance.choice(self._stage.workers)
        pids = [pid for pid in list(self.journal.running) if worker.owns(pid)]
        self._count(f"{fault} whatever it does", [self.journal.running.get(pid) for pid in pids])
        if fault == "kill worker":
            self._stage.kill_worker(worker)
        elif fault == "freeze worker":
            self._stage.freeze(worker.pid, group=True)

    def _kill_a_process(self) -> None:
        self.journal.follow()
        alive = self._stage.worker_of
        running = {pid: key for pid, key in list(self.journal.running.items()) if alive(pid)}
        if running:
            pid = self._chance.choice(list(running))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._count("kill process whatever it does", [running[pid]])

    def _noted(self, fault: str, key: str, pid: int) -> None:
        self._count(fault, [key])
        if fault.startswith("freeze"):
            self._stage.freeze(pid, group=False)

    def _running(self) -> list[str | None]:
        self.journal.follow()
        alive = self._stage.worker_of
        return [key for pid, key in list(self.journal.running.items()) if alive(pid)]

    def _count(self, fault: str, keys: list[str | None]) -> None:
        with self._counting:  # the publisher reads the journal too
            self.struck[fault] += 1
            self.kills += is_kill(fault)
            self.keys[fault].update(key for key in keys if key)
