"""The stage: it lets one actor go at a time, and knows when all have come to rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

import pytest
from django.db import connection
from psycopg import connect

from tests.harness.processes import database_url
from tests.harness.waiting import wait_until
from tests.interleavings.actors import Actor, Fate
from tests.interleavings.points import points_before_messages

#: Seconds in which a statement mostly returns. Only then is the server asked what it waits for.
QUICK = 0.002
PATIENCE = 20

BLOCKED = """
SELECT count(*) FROM unnest(%s::int[]) AS pid WHERE pg_blocking_pids(pid) && %s::int[]
"""


class Stage:
    """The actors of a situation, and a connection from which they are observed."""

    def __init__(self, number: int, *, all_points: bool) -> None:
        self._arrivals: SimpleQueue[Actor] = SimpleQueue()
        self.actors = [Actor(n, self._arrivals, all_points=all_points) for n in range(number)]
        self.observer = connect(database_url(), autocommit=True)
        #: Let go, and not back: waiting for a lock, once the stage has come to rest.
        self._away: set[Actor] = set()

    def begin(self, jobs: Sequence[Callable[[], Any]]) -> None:
        """Each actor runs its job up to its first point."""
        for actor, job in zip(self.actors, jobs, strict=True):
            actor.begin(job)
            self._away.add(actor)
        while self._away:
            self._arrive(PATIENCE)

    def ready(self) -> list[Actor]:
        """Those that can be let go. Empty when all have ended."""
        while True:
            ready = [a for a in self.actors if a not in self._away and a.at is not None]
            if ready or not self._away:
                return ready
            # They wait for each other: after deadlock_timeout the server ends one.
            self._arrive(PATIENCE)

    def let_go(self, actor: Actor, fate: Fate) -> None:
        """Let one go, until it and whomever it has set free have come to rest."""
        self._away.add(actor)
        actor.go(fate)
        end = time.monotonic() + PATIENCE
        while self._away and (self._arrive(QUICK if actor in self._away else 0) or self._moves()):
            assert time.monotonic() < end, f"{[a.at for a in self._away]} neither wait nor return"

    def _arrive(self, seconds: float) -> bool:
        try:
            actor = self._arrivals.get(timeout=seconds)
        except Empty:
            assert seconds < PATIENCE, f"{[a.at for a in self._away]} do not come back"
            return False
        self._away.discard(actor)
        if actor.lost_pid:
            self._see_end_of(actor.lost_pid)
        return True

    def _moves(self) -> bool:
        """Whether one that is away does not wait for a lock. Locks are granted by whoever releases
        them, so one that is to go on is seen to do so as soon as the other has its reply."""
        pids, others = [a.pid for a in self._away], [a.pid for a in self.actors]
        [(blocked,)] = self.observer.execute(BLOCKED, [pids, others]).fetchall()
        return bool(blocked < len(pids))

    def _see_end_of(self, pid: int) -> None:
        """Wait until the server has noticed a lost connection, and rolled back."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        is_gone = lambda: self.observer.execute(query, [pid]).fetchone() == (0,)  # noqa: E731
        if not any(is_gone() for _ in range(20)):
            wait_until(is_gone, f"backend {pid} to end")

    def end(self) -> None:
        while ready := self.ready():  # in the middle of a schedule
            self.let_go(ready[0], Fate.DIES_BEFORE)
        for actor in self.actors:
            actor.end()
        self.observer.close()


@contextmanager
def stage(number: int, *, all_points: bool) -> Iterator[Stage]:
    """A stage for so many actors, who stop before every message to the server."""
    with quick_commits(), points_before_messages():
        stage = Stage(number, all_points=all_points)
        try:
            yield stage
        finally:
            stage.end()


@contextmanager
def quick_commits() -> Iterator[None]:
    """No COMMIT waits for the disk, unless our code says so: no server is stopped here."""
    options = connection.settings_dict["OPTIONS"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(options, "options", "-c synchronous_commit=off")
        connection.close()
        yield
    connection.close()
