"""What happened to a key: told to whoever listens, and appended to the log in the database."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.core import mail
from django.db import DatabaseError, InterfaceError, connections, transaction
from django.db.models import Count
from django.db.models.functions import Now
from django.dispatch import Signal

from idempotency import signals
from idempotency.attempts import owner
from idempotency.models import IdempotencyEvent, IdempotencyRecord, Kind
from idempotency.signals import Told
from idempotency.storage import storage_for

logger = logging.getLogger("idempotency")

#: What a storm on one key would fill the log with: so many a minute are kept of each.
SAMPLED = frozenset({Kind.DUPLICATE, Kind.DEFERRED, Kind.FAILED, Kind.TAKEN_OVER, Kind.LEASE_LOST})
PER_MINUTE = 10

#: What a delivery came to that wrote nothing else: it does not wait for this to be written.
GATHERED = frozenset({Kind.DUPLICATE, Kind.DEFERRED})
#: Seconds after which a process writes what it has gathered: so much a killed one has lost.
GATHER_FOR = 1.0
#: How many it keeps while the server takes none.
GATHER_MOST = 10_000
#: Seconds to wait for them at the end of a process.
PATIENCE = 1.0

SIGNALS: dict[Kind, Signal] = {
    Kind.FAILED: signals.attempt_failed,
    Kind.DUPLICATE: signals.duplicate_replayed,
    Kind.DEFERRED: signals.delivery_deferred,
    Kind.TAKEN_OVER: signals.claim_taken_over,
    Kind.LEASE_LOST: signals.lease_lost,
    Kind.IN_DOUBT: signals.doubt_found,
    Kind.RESOLVED: signals.doubt_resolved,
    Kind.RELEASED: signals.claim_released,
    Kind.ALLOWED_AGAIN: signals.key_allowed_again,
    Kind.EXHAUSTED: signals.key_exhausted,
    Kind.GAVE_UP: signals.delivery_given_up,
    Kind.PURGED: signals.record_purged,
}


def told(
    *,
    using: str,
    key_hash: UUID,
    scope: str,
    task_id: str | None,
    attempt: int | None = None,
    duration: timedelta | None = None,
    redelivered: bool = False,
    note: str = "",
) -> Told:
    """What a signal says, with what goes without saying filled in."""
    return Told(
        using=using,
        key_hash=key_hash,
        scope=scope,
        task_id=task_id,
        attempt=attempt,
        worker=owner(),
        duration=duration,
        redelivered=redelivered,
        note=note,
    )


def tell(signal: Signal, about: Told) -> None:
    """Send a signal. A receiver that fails must not undo the work that it is told of."""
    signal.send_robust(sender=IdempotencyRecord, **about)


def tell_with_commit(signal: Signal, about: Told) -> None:
    """Send a signal once the open transaction is committed; what rolls back is not told."""
    transaction.on_commit(partial(tell, signal, about), using=about["using"], robust=True)


@dataclass(frozen=True, slots=True)
class Event:
    """A row to be."""

    kind: Kind
    about: Told
    #: Since when it waits, by ``time.monotonic()``; None if it is written at once.
    since: float | None = None

    def row(self) -> IdempotencyEvent:
        columns: dict[str, Any] = {**self.about}
        del columns["using"]
        if self.since is not None:
            columns["at"] = Now() - timedelta(seconds=time.monotonic() - self.since)
        return IdempotencyEvent(kind=self.kind, **columns)


def announce(kind: Kind, about: Told) -> None:
    """Tell of it, then append it to the log: an error there is logged, and undoes nothing.

    A duplicate and a deferral are written a moment later, with others.
    """
    tell(SIGNALS[kind], about)
    if kind in GATHERED and _may_wait(about["using"]):
        _gathered.add(Event(kind, about, since=time.monotonic()))
    else:
        _write([Event(kind, about)])


def announce_with_commit(kind: Kind, about: Told) -> None:
    """Append it to the log in the open transaction, and tell of it once that is committed."""
    _append([Event(kind, about)], about["using"])
    tell_with_commit(SIGNALS[kind], about)


def _may_wait(using: str) -> bool:
    """Whether a thread may write it on a connection of its own. In no test: it would be late for
    what the test reads, and for the end of its database."""
    # Django's runner and pytest-django make an outbox. (Django, "Testing tools", Email services)
    if hasattr(mail, "outbox"):
        return False
    storage = storage_for(using)
    return storage.has_other_writers and not storage.connection.in_atomic_block


def _write(log: list[Event]) -> None:
    for using in {event.about["using"] for event in log}:
        here = [event for event in log if event.about["using"] == using]
        storage = storage_for(using)
        try:
            with storage.transaction(joined=storage.connection.in_atomic_block):
                _append(_rare(here, using), using)
        except (DatabaseError, InterfaceError):
            kinds = dict(Counter(event.kind.value for event in here))
            logger.warning("Events could not be written: %s.", kinds, exc_info=True)


def _append(log: list[Event], using: str) -> None:
    IdempotencyEvent.objects.using(using).bulk_create([event.row() for event in log])


def _rare(log: list[Event], using: str) -> list[Event]:
    """Without what there is too much of."""
    sampled = {event.about["key_hash"] for event in log if event.kind in SAMPLED}
    if not sampled:
        return log
    recent = IdempotencyEvent.objects.using(using).filter(
        key_hash__in=sampled, kind__in=SAMPLED, at__gt=Now() - timedelta(minutes=1)
    )
    counts = recent.order_by().values_list("key_hash", "kind").annotate(Count("id"))
    numbers = Counter({(key_hash, kind): number for key_hash, kind, number in counts})
    rare = []
    for event in log:
        of_key = (event.about["key_hash"], event.kind)
        numbers[of_key] += 1
        if event.kind not in SAMPLED or numbers[of_key] <= PER_MINUTE:
            rare.append(event)
    return rare


class _Gathered:
    """Events that wait for a thread, which is there only while one waits."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """A forked process has no thread, and what was gathered is its parent's to write."""
        self._lock, self._ending = threading.Lock(), threading.Event()
        self._log: list[Event] = []
        self._of_key: Counter[tuple[Kind, UUID]] = Counter()
        self._dropped = 0
        self._thread: threading.Thread | None = None

    def add(self, event: Event) -> None:
        of_key = (event.kind, event.about["key_hash"])
        with self._lock:
            if len(self._log) >= GATHER_MOST:
                self._dropped += 1
            elif self._of_key[of_key] < PER_MINUTE:  # see _rare()
                self._of_key[of_key] += 1
                self._log.append(event)
            if self._thread is None or not self._thread.is_alive():
                self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="idempotency-events", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there may be no more threads: the next event tries again
            logger.warning("Events wait to be written: no thread starts.", exc_info=True)
        else:
            self._thread = thread

    def _run(self) -> None:
        while log := self._next():
            try:
                _write(log)
            finally:
                connections.close_all()

    def _next(self) -> list[Event]:
        """What has come within a moment; nothing, and then the thread ends."""
        self._ending.wait(GATHER_FOR)
        with self._lock:
            log, self._log = self._log, []
            dropped, self._dropped = self._dropped, 0
            self._of_key.clear()
            if not log:
                self._thread = None
        if dropped:
            logger.warning(
                "%s duplicates and deferrals were dropped, for %s waited to be written already: "
                "there were more than the table of events shows. Signals were sent of each.",
                *(dropped, len(log)),
            )
        return log

    def end(self) -> None:
        """Let what waits be written now."""
        thread = self._thread
        self._ending.set()
        if thread is not None:
            thread.join(PATIENCE)


_gathered = _Gathered()
os.register_at_fork(after_in_child=_gathered.begin_anew)


@atexit.register
def write_at_end() -> None:
    """Write what this process has gathered: a daemon thread does not outlive it."""
    _gathered.end()
