"""PostgreSQL: an advisory lock that saves work, a unique key that keeps the promise."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import cache
from typing import Any

from django.db import DatabaseError, InterfaceError
from psycopg import ClientCursor, Error
from psycopg.pq import TransactionStatus
from psycopg.types.datetime import TimestamptzLoader

from idempotency.attempts import owner
from idempotency.keys import Key
from idempotency.querysets import Claim
from idempotency.storage.base import TABLES, Storage
from idempotency.storage.rows import Entry, Look, Row, Seen, seen_first

logger = logging.getLogger("idempotency")

#: psycopg's private name for whether it takes itself to be in autocommit.
AUTOCOMMIT = "_autocommit"
#: Our name for what we keep on psycopg's connection.
CURSOR = "_idempotency_cursor"

# Under REPEATABLE READ the snapshot would be older than the lock, and in the middle of a rotation
# of secrets the unique key alone does not help.
READ_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"

# Raised, never lowered: remote_apply is stronger than on.
# (PostgreSQL manual, "synchronous_commit".)
FLUSHED = """SELECT set_config('synchronous_commit', 'on', true)
 WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')"""

# Raw columns, judged in Python: each expression here would be parsed and planned for every call,
# most of which find no row.
COLUMNS = ", ".join(Row._fields)
LOOK = """
SELECT {columns}, clock_timestamp()
  FROM idempotency_record
 WHERE key_hash IN ({hashes})
"""

# Written by another transaction than the one of the look, the record has no scope, and no scope
# is refused: the body has ended that transaction, and what it did may stand already.
INSERT = """
INSERT INTO idempotency_record AS record
       (key_hash, scope, key, fingerprint, task_id, result, state, attempt, generation,
        created_at, settled_at, expires_at)
VALUES (%(key_hash)s, CASE WHEN now() = %(begun_at)s THEN %(scope)s END, %(key)s, %(fingerprint)s,
        %(task_id)s, %(result)s, 'succeeded', 1, 1,
        now(), clock_timestamp(), clock_timestamp() + %(retention)s)
"""

# A lost race must be an error, for COMMIT follows in the same message: a state of NULL is one.
# `DO UPDATE ... WHERE` would change no row, and COMMIT would commit the second effect.
OVER_SEEN = """
ON CONFLICT (key_hash) DO UPDATE
   SET state = CASE WHEN (record.state, record.attempt, record.expires_at, record.lease_expires_at)
                         IS NOT DISTINCT FROM
                         (%(state)s, %(attempt)s, %(expires_at)s::timestamptz,
                          %(lease_expires_at)s::timestamptz)
                    THEN 'succeeded' END,
       attempt = record.attempt + %(attempts)s, scope = excluded.scope, key = excluded.key,
       fingerprint = excluded.fingerprint, task_id = excluded.task_id, result = excluded.result,
       claimed_at = now(), settled_at = excluded.settled_at, expires_at = excluded.expires_at,
       claim_id = NULL, policy = NULL, owner = NULL, error_class = NULL, error_message = NULL,
       effect_begun_at = NULL, lease_expires_at = NULL, repeat_until = NULL,
       exhausted_at = NULL
"""

# What the lock came to, for the next statement of the message; forgotten with the transaction.
REMEMBERED = """
SELECT begun_at, locked, set_config('idempotency.locked', locked::text, true)
  FROM ({lock}) AS tried (begun_at, locked)
"""

# The lock keeps transactional attempts out, and no unique key spans an older secret's hash.
CLAIM = """
INSERT INTO idempotency_record
       (key_hash, scope, key, fingerprint, task_id, state, attempt, generation, claim_id,
        policy, owner, claimed_at, effect_begun_at, repeat_until, lease_expires_at, expires_at)
SELECT %(key_hash)s, %(scope)s, %(key)s, %(fingerprint)s, %(task_id)s, 'running', 1, 1, %(id)s,
       %(policy)s, %(owner)s, statement_timestamp(),
       CASE WHEN %(begins)s THEN statement_timestamp() END,
       statement_timestamp() + %(window)s::interval - %(lease)s, statement_timestamp() + %(lease)s,
       statement_timestamp() + %(retention)s
 WHERE current_setting('idempotency.locked')::boolean
   AND NOT EXISTS (SELECT FROM idempotency_record WHERE key_hash = ANY(%(hashes)s))
"""

# PostgreSQL manual, appendix A: serialization_failure, deadlock_detected.
LOST_TRANSACTION = {"40001", "40P01"}
# Class 08 (connection exceptions), 57P01 to 57P03 (the server goes down or comes up), 25P03 and
# 25P04 (it ended a transaction that was idle, or ran, too long).
LOST_CONNECTION = ("08", "57P0", "25P03", "25P04")
LOCK_NOT_AVAILABLE = "55P03"
UNDEFINED_TABLE = "42P01"


class PostgreSQL(Storage):
    """Raw SQL, sent by psycopg's client cursor: a message can then hold two statements, also when
    Django's own cursors bind on the server."""

    @property
    def _raw(self) -> Any:
        """psycopg's connection, opened if there is none."""
        if self.connection.connection is None:
            self.connection.ensure_connection()
        return self.connection.connection

    def _send(self, sql: str, parameters: dict[str, Any] | None = None) -> ClientCursor[Any]:
        """Its answers are there until the next message of this connection."""
        cursor = _cursor_of(self._raw)
        with self.connection.wrap_database_errors:
            # No literal only because of the key's numbers and hashes.
            return cursor.execute(sql, parameters)  # pyright: ignore[reportArgumentType]

    def _send_first(self, statements: list[str], sql: str) -> ClientCursor[Any]:
        """Send the first message of a transaction, and BEGIN in it; the cursor is at ``sql``.

        psycopg sends BEGIN in a message of its own, unless it takes itself to be in autocommit:
        for this one message it does. (psycopg/_connection_base.py: _start_query)
        """
        raw = self._raw
        begins = not raw.autocommit and self._status() == TransactionStatus.IDLE
        if begins and _merges_begin(raw):
            statements = ["BEGIN", *statements]
            try:
                setattr(raw, AUTOCOMMIT, True)
                cursor = self._send(";\n".join([*statements, sql]))
            finally:
                setattr(raw, AUTOCOMMIT, False)
        else:
            cursor = self._send(";\n".join([*statements, sql]))
        for _ in statements:
            cursor.nextset()
        return cursor

    def _status(self) -> int:
        status: int = self.connection.connection.pgconn.transaction_status
        return status

    def is_idle(self) -> bool:
        # Interrupted while it switches, Django may not know what psycopg is set to.
        in_autocommit = bool(self._raw.autocommit)
        return in_autocommit and self._status() == TransactionStatus.IDLE

    def is_broken(self, raw: Any) -> bool:
        return bool(raw.broken)

    def is_transient(self, error: BaseException, raw: Any) -> bool:
        if not isinstance(error, DatabaseError | InterfaceError):
            return False
        state = _sqlstate(error)
        if state is None:
            # psycopg gives no SQLSTATE when it is the connection that failed. In a body it may
            # be the connection to some other server, so ours is asked.
            return raw is None or self.is_broken(raw)
        return state in LOST_TRANSACTION or state.startswith(LOST_CONNECTION)

    def is_lock_timeout(self, error: BaseException) -> bool:
        return _sqlstate(error) == LOCK_NOT_AVAILABLE

    def is_record_changed(self, error: BaseException) -> bool:
        if _sqlstate(error) == "23505":
            return bool(_diagnosis(error).constraint_name == "idempotency_record_key_hash")
        return self._is_null(error, "state")

    def is_body_committed(self, error: BaseException) -> bool:
        return self._is_null(error, "scope")

    def _is_null(self, error: BaseException, column: str) -> bool:
        if _sqlstate(error) != "23502":
            return False
        diagnosis = _diagnosis(error)
        return (diagnosis.table_name, diagnosis.column_name) == ("idempotency_record", column)

    def _is_table_missing(self, error: BaseException) -> bool:
        # The text may be translated; the name in it is not.
        return _sqlstate(error) == UNDEFINED_TABLE and any(
            f'"{table}"' in str(error) for table in TABLES
        )

    def _has_ended(self) -> bool:
        return self._status() == TransactionStatus.IDLE

    def _is_aborted(self) -> bool:
        return self._status() != TransactionStatus.INTRANS

    def lock_and_look(
        self, key: Key, *, read_committed: bool = False, flushed: bool = False
    ) -> Look:
        settings = [READ_COMMITTED] * read_committed + [FLUSHED] * flushed
        return _looked(self._send_first(settings, _lock_and_look(key)))

    def peek(self, key: Key) -> Look:
        # The lock is held as long as the message takes.
        return _looked(self._send(_lock_and_look(key)))

    def commit_with_record(self, entry: Entry, look: Look, *, result: str | None) -> None:
        sql, parameters = _record(entry, look, result)
        self._send(f"{sql}; COMMIT", parameters)
        # Django's own commit() then finds nothing to do, and runs the hooks.

    def add_record(self, entry: Entry, look: Look, *, result: str | None) -> None:
        self._send(*_record(entry, look, result))

    def claim(
        self,
        entry: Entry,
        claim: Claim,
        *,
        policy: str,
        begins: bool,
        window: timedelta | None = None,
    ) -> Look:
        if self.in_test_case:
            return super().claim(entry, claim, policy=policy, begins=begins, window=window)
        # The statements of one message are one transaction, without BEGIN and COMMIT, and the
        # reply comes when it is committed. (PostgreSQL manual, "Multiple Statements in a Simple
        # Query".) It may insert nothing: there is no effect yet that would be committed alone.
        remembered = REMEMBERED.format(lock=_lock(entry.key))
        with self.one_message():
            cursor = self._send(
                ";".join([READ_COMMITTED, FLUSHED, remembered, CLAIM, _look(entry.key)]),
                entry.columns(claim.key_hash)
                | {
                    "key_hash": claim.key_hash,
                    "id": claim.id,
                    "policy": policy,
                    "owner": owner(),
                    "begins": begins,
                    "window": window,
                    "lease": claim.lease,
                    "retention": claim.retention,
                    "hashes": list(entry.key.hashes),
                },
            )
            for _ in (READ_COMMITTED, FLUSHED):
                cursor.nextset()
            [(begun_at, locked, _)] = cursor.fetchall()
            for _ in (remembered, CLAIM):
                cursor.nextset()
            return Look(begun_at, locked, _seen(cursor))

    def flush_at_commit(self) -> None:
        self._send(FLUSHED)

    def stand_back(self, patience: timedelta) -> None:
        self._send(f"{READ_COMMITTED}; SET LOCAL synchronous_commit = off")
        self.wait_at_most(patience)

    def wait_at_most(self, duration: timedelta) -> None:
        milliseconds = f"{duration // timedelta(milliseconds=1)}ms"
        self._send("SELECT set_config('lock_timeout', %(limit)s, true)", {"limit": milliseconds})


def _cursor_of(raw: Any) -> ClientCursor[Any]:
    """One for each connection, kept on it and gone with it: to make one takes as long as to send
    a message by it."""
    cursor: ClientCursor[Any] | None = vars(raw).get(CURSOR)
    if cursor is None:
        cursor = ClientCursor(raw)
        # Without USE_TZ, Django's own loader drops the offset: one hour of the year is ambiguous.
        cursor.adapters.register_loader("timestamptz", TimestamptzLoader)
        setattr(raw, CURSOR, cursor)
    return cursor


def _merges_begin(raw: Any) -> bool:
    """Whether BEGIN may travel with a statement: psycopg has the private name for it, and would
    send BEGIN and nothing more."""
    if not hasattr(raw, AUTOCOMMIT):
        _say_once_that_begin_goes_alone()
        return False
    return raw.isolation_level is None and raw.read_only is None and raw.deferrable is None


@cache
def _say_once_that_begin_goes_alone() -> None:
    logger.warning("This psycopg has no %s: BEGIN goes alone, one round trip more.", AUTOCOMMIT)


def _lock_and_look(key: Key) -> str:
    # Two statements, not one: in one, the snapshot is older than the lock, so a record
    # committed in between stays unseen and the body runs in vain.
    # (PostgreSQL manual, "Transaction Isolation"; 39 of 8000 deliveries in a storm.)
    return f"{_lock(key)};{_look(key)}"


def _lock(key: Key) -> str:
    locks = " AND ".join(f"pg_try_advisory_xact_lock({n})" for n in key.lock_numbers)
    return f"SELECT now(), {locks}"


def _look(key: Key) -> str:
    hashes = ", ".join(f"'{key_hash}'" for key_hash in key.hashes)
    return LOOK.format(columns=COLUMNS, hashes=hashes)


def _looked(cursor: ClientCursor[Any]) -> Look:
    [(begun_at, locked)] = cursor.fetchall()
    cursor.nextset()
    return Look(begun_at, locked, _seen(cursor))


def _seen(cursor: ClientCursor[Any]) -> Seen | None:
    rows = cursor.fetchall()
    return seen_first((Row(*row[:-1]) for row in rows), now=rows[0][-1]) if rows else None


def _record(entry: Entry, look: Look, result: str | None) -> tuple[str, dict[str, Any]]:
    """The statement that inserts the record of a success."""
    seen, own = look.seen, look.own
    key_hash = seen.key_hash if seen else entry.key.hashes[0]
    parameters = entry.columns(key_hash) | {
        "key_hash": key_hash,
        "begun_at": look.begun_at,
        "result": result,
        "retention": entry.retention,
    }
    if seen is None:
        return INSERT, parameters
    return INSERT + OVER_SEEN, parameters | {
        "state": seen.state.value,
        "attempt": seen.attempt,
        "expires_at": seen.expires_at,
        "lease_expires_at": seen.lease_expires_at,
        "attempts": 0 if own else 1,
    }


def _sqlstate(error: BaseException) -> str | None:
    cause = error.__cause__
    return cause.sqlstate if isinstance(cause, Error) else None


def _diagnosis(error: BaseException) -> Any:
    cause = error.__cause__
    assert isinstance(cause, Error)  # noqa: S101 only asked once there is an SQLSTATE
    return cause.diag
