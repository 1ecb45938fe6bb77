"""Actors: threads with a connection each, which stop before every message to the server."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from enum import StrEnum
from queue import SimpleQueue
from typing import Any

from django.db import connections
from psycopg.pq import TransactionStatus

from idempotency.testing import SimulatedCrash

_here = threading.local()


class Fate(StrEnum):
    """What becomes of a message, and of who sends it."""

    SENT = ""
    DIES_BEFORE = "x"
    DIES_AFTER = "X"
    CUT_BEFORE = "c"
    CUT_AFTER = "C"


#: The faults by what they do to the actor.
DEATHS = (Fate.DIES_BEFORE, Fate.DIES_AFTER)
#: A death after a reply is one before the next message: nobody sees what is done in between, but
#: for what a caller is told at the end.
DEATH = DEATHS[:1]
CUTS = (Fate.CUT_BEFORE, Fate.CUT_AFTER)

_UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{32}\b")

#: Letters of a message that are shown.
SHORT = 60

# Such take no lock and no snapshot; and nothing that is asserted reads an event. With a second
# statement behind one, which travels in the same message, it is not known.
_LOCAL = re.compile(r"(BEGIN|SET TRANSACTION|SAVEPOINT|RELEASE)[^;]*|[^;]*idempotency_event[^;]*")


def is_local(message: str, raw: Any) -> bool:
    """Whether it commutes with every message of every other actor, and so need not be tried in
    every place. (Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems".)
    """
    if message.startswith("SELECT set_config") and ";" not in message:
        return raw.isolation_level is None  # READ COMMITTED; else it takes the snapshot
    return _LOCAL.fullmatch(message) is not None


class Actor:
    """A thread that runs one job after the other, each from one point to the next on order."""

    def __init__(self, index: int, arrivals: SimpleQueue[Actor], *, all_points: bool) -> None:
        self.index = index
        #: The message that it is about to send; None when its job has ended.
        self.at: str | None = None
        #: Whether it is a message, and not an effect outside.
        self.sends = False
        #: What its job returned, or the error that ended it.
        self.outcome: Any = None
        self.pid = 0
        #: Of the connection that it has lost since it was last let go.
        self.lost_pid: int | None = None
        self._arrivals = arrivals
        self._all_points = all_points
        self._jobs: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._orders: SimpleQueue[Fate] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    # -- called by the stage -----------------------------------------------------------------

    def begin(self, job: Callable[[], Any]) -> None:
        self._jobs.put(job)

    def go(self, fate: Fate) -> None:
        self._orders.put(fate)

    def end(self) -> None:
        self._jobs.put(None)
        self._thread.join(timeout=20)
        assert not self._thread.is_alive(), "an actor does not end"

    @property
    def is_dead(self) -> bool:
        return isinstance(self.outcome, SimulatedCrash)

    # -- in its thread -----------------------------------------------------------------------

    def _work(self) -> None:
        for job in iter(self._jobs.get, None):
            _here.actor = None
            connections["default"].ensure_connection()
            self._fate, self.clock = Fate.SENT, 0.0
            self.lost_pid, self.outcome = None, None
            self._has_died = self._touched = False
            _here.actor = self
            try:
                self.outcome = job()
                self._refuse_open_transaction()
            # A dead one's error is a BaseException, and the oracle is told of any other.
            except BaseException as error:
                # Unwound, a dead one meets further errors, which no process is left to have.
                self.outcome = SimulatedCrash() if self._has_died else error
            _here.actor = None
            if self.lost_pid:
                self._forget_connection()
            self.at = None
            self._arrivals.put(self)
        connections.close_all()

    def _refuse_open_transaction(self) -> None:
        raw = connections["default"].connection
        assert raw is None or (
            raw.autocommit and raw.info.transaction_status == TransactionStatus.IDLE
        )

    def _forget_connection(self) -> None:
        raw = connections["default"].connection
        if raw is not None:
            raw.close()
        del connections["default"]

    def stop(self, message: str, raw: Any) -> None:
        """A point: wait for the order to go on. ``raw`` is None when nothing is sent."""
        self.refuse_if_dead()
        self.heard(raw)  # of what the same call has sent before
        if raw is not None:
            self.pid = raw.info.backend_pid
            if self._is_unseen(message, raw) and not self._all_points:
                return
        self.at, self.sends = _short(message), raw is not None
        self._arrivals.put(self)
        self._fate = self._orders.get()
        if self._fate is Fate.DIES_BEFORE:
            self.die(raw)
        if self._fate is Fate.CUT_BEFORE:
            self._cut(raw)

    def refuse_if_dead(self) -> None:
        if self._has_died:
            raise SimulatedCrash

    def _is_unseen(self, message: str, raw: Any) -> bool:
        """Whether no other actor can see it; so is the COMMIT of nothing but such."""
        ends = message in ("COMMIT", "ROLLBACK")
        unseen = not self._touched if ends else is_local(message, raw)
        self._touched = not ends and (self._touched or not unseen)
        return unseen

    def heard(self, raw: Any) -> None:
        """The reply is there, unless it was lost."""
        if self._fate is Fate.DIES_AFTER:
            self.die(raw)
        if self._fate is Fate.CUT_AFTER:
            self._cut(raw)
            raw.pgconn.consume_input()  # by this libpq finds out, and psycopg raises

    def die(self, raw: Any = None) -> None:
        self._fate, self._has_died = Fate.SENT, True
        if raw is None:
            raw = connections["default"].connection
        if raw is not None:
            self._cut(raw)
        raise SimulatedCrash

    def _cut(self, raw: Any) -> None:
        self._fate, self.lost_pid = Fate.SENT, raw.info.backend_pid
        with socket.socket(fileno=os.dup(raw.pgconn.socket)) as line:
            line.shutdown(socket.SHUT_RDWR)


def here() -> Actor | None:
    """The actor whose thread this is, while it acts."""
    return getattr(_here, "actor", None)


def point(message: str, raw: Any = None) -> None:
    """A scheduling point of the actor whose thread this is; elsewhere nothing."""
    if actor := here():
        actor.stop(message, raw)


def die() -> None:
    """The actor whose thread this is dies."""
    if actor := here():
        actor.die()


def _short(message: str) -> str:
    """Without what differs from key to key."""
    ends = " ... COMMIT" if len(message) > SHORT and message.endswith("COMMIT") else ""
    same = _UUID.sub("#", message)
    return re.sub(r"-?\d+", "#", same)[:SHORT] + ends
