"""What a PostgreSQL server says of itself, and does besides: for the doctor and the test kit."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, InterfaceError, connections, transaction

ASK = """
SELECT pg_backend_pid(), current_setting('server_version'),
       current_setting('transaction_read_only') = 'on', pg_is_in_recovery(),
       upper(current_setting('transaction_isolation')), current_setting('synchronous_commit'),
       current_setting('idle_in_transaction_session_timeout'),
       current_setting('synchronous_standby_names') = ''
           AND EXISTS (SELECT FROM pg_stat_replication)
"""

# What a worker does; a purge deletes too, and says so itself where it may not.
RIGHTS = """
SELECT wanted.right || ' on ' || wanted.table
  FROM (VALUES ('idempotency_record', 'SELECT'), ('idempotency_record', 'INSERT'),
               ('idempotency_record', 'UPDATE'), ('idempotency_event', 'SELECT'),
               ('idempotency_event', 'INSERT'), ('idempotency_parked_message', 'SELECT'),
               ('idempotency_parked_message', 'INSERT'), ('idempotency_parked_message', 'DELETE')
       ) AS wanted ("table", "right")
 WHERE NOT has_table_privilege(wanted.table, wanted.right)
"""

LOCK = "SELECT pg_try_advisory_xact_lock(%s)"

# One lock of 64 bits is told from a pair of 32 by objsubid. (PostgreSQL manual, "pg_locks".) Of a
# session of another role, xact_start is NULL to whoever is not in pg_read_all_stats.
HELD = """
SELECT activity.pid, clock_timestamp() - activity.xact_start,
       lpad(to_hex(held.classid::bigint), 8, '0') || lpad(to_hex(held.objid::bigint), 8, '0')
  FROM pg_locks held JOIN pg_stat_activity activity USING (pid)
 WHERE held.locktype = 'advisory' AND held.objsubid = 1 AND held.granted
   AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND activity.xact_start <= clock_timestamp() - make_interval(secs => %s)
 ORDER BY activity.xact_start
 LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class HeldLock:
    """An advisory lock: while a transactional body runs, one on its key.

    Attributes:
        pid: Of the backend.
        age: Of its transaction.
        digits: The first 16 hex digits of the key's hash, if the lock is one of ours.
    """

    pid: int
    age: timedelta
    digits: str


@dataclass(frozen=True, slots=True)
class Server:
    """What it said, on a connection with the settings of its alias.

    Attributes:
        is_pooled: Whether something between us and the server answers in its place.
        version: As the server writes it.
        is_read_only: Whether a transaction may write nothing.
        is_standby: Whether that is because it follows another server.
        isolation: Of the transactions that Django begins; in capitals.
        synchronous_commit: As the server writes it.
        idle_limit: Its ``idle_in_transaction_session_timeout``: "0", or such as "5min".
        is_ahead: Whether others follow it, and no COMMIT waits for them.
    """

    is_pooled: bool
    version: str
    is_read_only: bool
    is_standby: bool
    isolation: str
    synchronous_commit: str
    idle_limit: str
    is_ahead: bool


def ask(using: str) -> Server:
    """Ask the server.

    Raises:
        DatabaseError: It does not answer.
    """
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute(ASK)
        pid, *said = cursor.fetchone()
        # A pooler makes up a number of its own. (pgbouncer/src/client.c: random cancel keys)
        told: Any = connections[using].connection
        return Server(told.info.backend_pid != pid, *said)


def missing_rights(using: str) -> list[str]:
    """What this role may not do with our tables: "INSERT on idempotency_event"."""
    with connections[using].cursor() as cursor:
        cursor.execute(RIGHTS)
        return [right for (right,) in cursor.fetchall()]


def held_locks(using: str, *, longer_than: timedelta, limit: int) -> list[HeldLock]:
    """The advisory locks of transactions that have been open for so long, the oldest first.

    Nothing tells a lock of ours from another program's, except that a record has its key.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(HELD, [longer_than.total_seconds(), limit])
        return [HeldLock(*row) for row in cursor.fetchall()]


class NoSecondConnectionError(Exception):
    """What a heartbeat would meet."""


def locks_exclude(using: str) -> bool:
    """Whether a second connection is refused an advisory lock that the first one holds.

    Raises:
        NoSecondConnectionError: There is none to be had.
    """
    number = secrets.randbits(62)
    second = connections[using].copy()
    try:
        with transaction.atomic(using=using), connections[using].cursor() as cursor:
            cursor.execute(LOCK, [number])
            try:
                second.ensure_connection()
            except (DatabaseError, InterfaceError) as error:
                raise NoSecondConnectionError(str(error)) from error
            with second.cursor() as other:
                other.execute(LOCK, [number])
                [is_free] = other.fetchone()
                return not is_free
    finally:
        second.close()


def end_backend(using: str, pid: int) -> None:
    """End a session of this server, and with it its transaction."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
