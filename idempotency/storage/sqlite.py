"""SQLite: one writer at a time, and a unique key that keeps the promise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from sqlite3 import SQLITE_BUSY, SQLITE_LOCKED
from sqlite3 import Error as SQLiteError
from typing import Any

from django.db import IntegrityError
from django.db.models.functions import Now
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive, make_aware

from idempotency.keys import Key
from idempotency.querysets import Claim, after
from idempotency.states import State
from idempotency.storage.base import TABLES, Storage
from idempotency.storage.rows import Entry, Look, Row, Seen, seen_first

#: A write that changes nothing takes the lock of a writer at once, and waits for it as long as the
#: connection's ``timeout`` says. Taken after a read, it is refused without waiting.
#: (sqlite.org/lang_transaction.html, "Deferred, Immediate, and Exclusive Transactions")
BECOME_WRITER = "UPDATE idempotency_record SET id = id WHERE 0"

CHANGED = "The record was changed since the look."

_numbers = count(1)


class SQLite(Storage):
    """Who has begun is the only one who writes: no other attempt of any key runs meanwhile, unless
    under a lease. Its ``COMMIT`` is as durable as the pragma ``synchronous`` makes it."""

    has_other_writers = False

    def in_utc(self, at: datetime) -> datetime:
        # Without USE_TZ too, SQLite's clock is in UTC. (sqlite.org/lang_datefunc.html, 'now')
        return at.replace(tzinfo=UTC) if is_naive(at) else super().in_utc(at)

    def _send(self, sql: str) -> Any:
        return self.connection.cursor().execute(sql)

    def is_idle(self) -> bool:
        self.connection.ensure_connection()
        return not self.connection.connection.in_transaction

    def is_broken(self, raw: Any) -> bool:
        return False  # there is no server to lose

    def is_transient(self, error: BaseException, raw: Any) -> bool:
        return self.is_lock_timeout(error)

    def is_lock_timeout(self, error: BaseException) -> bool:
        cause = error.__cause__
        code = getattr(cause, "sqlite_errorcode", 0) if isinstance(cause, SQLiteError) else 0
        return code & 0xFF in (SQLITE_BUSY, SQLITE_LOCKED)  # the rest of it says more exactly why

    def is_record_changed(self, error: BaseException) -> bool:
        return isinstance(error, IntegrityError) and str(error) in (
            CHANGED,
            "UNIQUE constraint failed: idempotency_record.key_hash",
        )

    def is_body_committed(self, error: BaseException) -> bool:
        return "no such savepoint: idempotency_" in str(error)

    def _is_table_missing(self, error: BaseException) -> bool:
        return str(error) in {f"no such table: {table}" for table in TABLES}

    def _has_ended(self) -> bool:
        return not self.connection.connection.in_transaction

    def _is_aborted(self) -> bool:
        return False  # an error ends its statement only

    def _disconnect(self) -> None:
        # Django keeps the connection to a database in memory, for with it that would be gone.
        if self.connection.connection is not None:
            self.connection.connection.rollback()
        self.connection.autocommit = True
        super()._disconnect()

    def lock_and_look(
        self, key: Key, *, read_committed: bool = False, flushed: bool = False
    ) -> Look:
        # It reads what was committed before it became the writer, and the pragma ``synchronous``
        # cannot be changed inside a transaction.
        # With the transaction ends the savepoint, so that its release tells whether it is still
        # this one that commits.
        number = next(_numbers)
        self._send(BECOME_WRITER)
        self._send(f"SAVEPOINT idempotency_{number}")
        begun_at, seen = self._look(key)
        return Look(begun_at, True, seen, savepoint=number)

    def peek(self, key: Key) -> Look:
        begun_at, seen = self._look(key)
        return Look(begun_at, True, seen)

    def _look(self, key: Key) -> tuple[datetime, Seen | None]:
        now = self._now()
        found = [
            Row(*columns)
            for columns in self.records.filter(key_hash__in=key.hashes).values_list(*Row._fields)
        ]
        return now, seen_first(found, now=now) if found else None

    def _now(self) -> datetime:
        """By the clock of ``Now()``, and as naive as the columns are without USE_TZ."""
        [(text,)] = self._send("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')").fetchall()
        now = parse_datetime(text)
        assert now is not None  # noqa: S101 SQLite wrote it
        return make_aware(now, self.connection.timezone) if self.connection.timezone else now

    def commit_with_record(self, entry: Entry, look: Look, *, result: str | None) -> None:
        self.add_record(entry, look, result=result)
        self._send("COMMIT")
        # Django's own commit() then finds nothing to do, and runs the hooks.

    def add_record(self, entry: Entry, look: Look, *, result: str | None) -> None:
        self._send(f"RELEASE SAVEPOINT idempotency_{look.savepoint}")
        seen = look.seen
        key_hash = seen.key_hash if seen else entry.key.hashes[0]
        columns = entry.columns(key_hash) | {
            "result": result,
            "settled_at": Now(),
            "expires_at": after(entry.retention),
        }
        if seen is None:
            self.records.create(
                key_hash=key_hash,
                state=State.SUCCEEDED,
                attempt=1,
                created_at=look.begun_at,
                **columns,
            )
        elif not self.records.succeed_over(seen, own=look.own, begun_at=look.begun_at, **columns):
            raise IntegrityError(CHANGED)

    def flush_at_commit(self) -> None:
        """The pragma ``synchronous`` cannot be changed inside a transaction."""

    def stand_back(self, patience: timedelta) -> None:
        """It waits for other writers as long as the connection's ``timeout`` says."""

    def wait_at_most(self, duration: timedelta) -> None:
        """Nobody waits for a writer's own statements."""

    def hold(self, claim: Claim) -> None:
        self._send(BECOME_WRITER)
