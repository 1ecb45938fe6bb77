"""Bodies, and what they need, shared by the tests of both runners."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from psycopg import connect

from idempotency.models import IdempotencyEvent, IdempotencyRecord
from tests.harness.processes import database_url
from tests.jobs.models import Effect


def effect(note: str = "effect") -> str:
    """One row: the oracle, which knows nothing of records."""
    Effect.objects.create(key="key", note=note, pid=os.getpid())
    return note


def effects(note: str = "effect") -> int:
    return Effect.objects.filter(note=note).count()


def the_record() -> IdempotencyRecord:
    return IdempotencyRecord.objects.get()


def kinds() -> list[str]:
    """The kinds of all events, oldest first."""
    return list(IdempotencyEvent.objects.order_by("id").values_list("kind", flat=True))


class Thread:
    """A call on a connection of its own: ``with Thread(call) as other: ...; other.result()``."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._outcome: Any = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._outcome = self._call()
        except Exception as error:
            self._outcome = error
        finally:
            connections.close_all()

    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        """What it returned, or the error it raised."""
        self._thread.join(timeout=20)
        assert not self._thread.is_alive(), "the other call does not end"
        return self._outcome

    def __enter__(self) -> "Thread":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.result()


class Gate:
    """``gate.pass_()`` in a body says that it is there, and waits until the test opens."""

    def __init__(self) -> None:
        self._reached, self._opened = threading.Event(), threading.Event()

    def pass_(self) -> None:
        self._reached.set()
        assert self._opened.wait(20), "nobody opened the gate"

    def wait(self) -> None:
        assert self._reached.wait(20), "nobody came to the gate"

    def open(self) -> None:
        self._opened.set()

    @contextmanager
    def held(self, call: Callable[[], Any]) -> Iterator[Thread]:
        """While ``call``, in another thread, waits at this gate."""
        with Thread(call) as thread:
            try:
                self.wait()
                yield thread
            finally:
                self.open()


@contextmanager
def renamed(table: str, *, using: str = "default") -> Iterator[None]:
    """A database in which this table was never made."""
    with connections[using].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO hidden")
    try:
        yield
    finally:
        with connections[using].cursor() as cursor:
            cursor.execute(f"ALTER TABLE hidden RENAME TO {table}")


def waits_for_a_lock() -> bool:
    """Whether anybody waits for a lock in this database."""
    with connect(database_url(), autocommit=True) as observer:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        [(waiting,)] = observer.execute(f"{query} AND datname = current_database()")
    return waiting > 0
