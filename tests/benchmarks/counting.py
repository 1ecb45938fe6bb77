"""What a call costs the server, in counts that repeat on any machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from django.db import connection

from tests.benchmarks.distance import reached_by
from tests.benchmarks.gathered import held
from tests.benchmarks.rounds import NUMBERS, Subject
from tests.harness.proxy import Proxy

#: How often some calls are counted together: the median leaves out when a page was split.
TIMES = 7

# Without the images of whole pages, which depend on the checkpoint and not on the call.
WAL = """
SELECT coalesce(sum(record_length - fpi_length) FILTER (WHERE start_lsn < %s), 0)
  FROM pg_get_wal_records_info(%s, pg_current_wal_flush_lsn())
"""
# Only what is flushed is told of, and there must be something.
FLUSHED = "SELECT pg_logical_emit_message(true, 'benchmark', '')::text"
FLUSHES = "SELECT sum(fsyncs) FROM pg_stat_get_backend_io(pg_backend_pid()) WHERE object = 'wal'"


@dataclass(frozen=True)
class Counts:
    """For one call."""

    round_trips: float
    wal: float
    flushes: float


def counts(subjects: tuple[Subject, ...], *, calls: int) -> dict[str, Counts]:
    """By the name of the subject."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
        for table in ("idempotency_record", "idempotency_event", "jobs_effect"):
            cursor.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        cursor.execute("CHECKPOINT")  # neither comes while it is counted
    keys = [[next(NUMBERS) for _ in range(calls)] for _ in range(TIMES)]
    more = [next(NUMBERS) for _ in range(calls)]
    found = {}
    for subject in subjects:
        with held():
            written = [_written(subject.call, batch) for batch in keys]
        wal = median(size for size, _ in written)
        flushes = median(number for _, number in written)
        trips = _round_trips(subject.call, more)
        found[subject.name] = Counts(trips, wal, flushes)
    return found


def _written(call: Callable[[int], Any], numbers: list[int]) -> tuple[float, float]:
    [before], [flushed] = ask("SELECT pg_current_wal_insert_lsn()"), _flushes()
    for number in numbers:
        call(number)
    [end], [after] = ask("SELECT pg_current_wal_insert_lsn()"), _flushes()
    ask(FLUSHED)
    [size] = ask(WAL, end, before)
    return float(size) / len(numbers), float(after - flushed) / len(numbers)


def _flushes() -> Any:
    ask("SELECT pg_stat_force_next_flush()::text")
    return ask(FLUSHES)


def _round_trips(call: Callable[[int], Any], numbers: list[int]) -> float:
    with Proxy() as proxy, reached_by(*proxy.address):
        connection.ensure_connection()
        before = proxy.round_trips
        for number in numbers:
            call(number)
        return (proxy.round_trips - before) / len(numbers)


def ask(sql: str, *parameters: Any) -> Any:
    """The one row that a statement gives."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()
