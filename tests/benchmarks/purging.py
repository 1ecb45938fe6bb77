"""How fast a purge is, and what first executions take beside it."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from django.db import connection

from tests.benchmarks.counting import ask
from tests.benchmarks.pages import cpu_of_server
from tests.benchmarks.rounds import NUMBERS
from tests.benchmarks.subjects import first
from tests.benchmarks.writing import table

#: So many first executions are the measure of those beside the purge.
ALONE = 300


@dataclass(frozen=True)
class Purging:
    """One purge.

    Attributes:
        rows: Of the table, before.
        deleted: Of these.
        seconds: By the clock on the wall.
        cpu: Seconds of a processor, in the server's process.
        wal: Bytes, in all.
        beside: Microseconds of a first execution while it went on, the median.
        alone: The same just before.
        vacuum: Seconds that the VACUUM after it took.
    """

    rows: int
    deleted: int
    seconds: float
    cpu: float
    wal: float
    beside: float
    alone: float
    vacuum: float


def purging(rows: int) -> Purging:
    """Purge the table of so many rows, from a process of its own."""
    left = iter(range(ALONE))
    alone = _first_executions(lambda: next(left, None) is None)
    fork = multiprocessing.get_context("fork")
    done = fork.SimpleQueue()
    connection.close()  # not to be shared with the child
    purge = fork.Process(target=_purge, args=(done,))
    purge.start()
    beside = _first_executions(lambda: not done.empty() or not purge.is_alive())
    purge.join()
    assert purge.exitcode == 0, "the purge has failed"
    begin = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM idempotency_record")
    vacuum = time.perf_counter() - begin
    return Purging(rows, *done.get(), beside, alone, vacuum)


def told(purges: list[Purging]) -> str:
    """For the page."""
    heads = ["Records", "deleted", "s", "deleted/s", "read/s", "server's CPU, s"]
    heads += ["WAL, bytes for each", "first execution beside it, µs", "before it, µs"]
    return table(
        [*heads, "VACUUM after it, s"],
        [
            [
                f"{each.rows:,}",
                f"{each.deleted:,}",
                f"{each.seconds:.2f}",
                f"**{each.deleted / each.seconds:,.0f}**",
                f"**{each.rows / each.seconds:,.0f}**",
                f"{each.cpu:.2f}",
                f"{each.wal / max(each.deleted, 1):.0f}",
                f"{each.beside:.0f}",
                f"{each.alone:.0f}",
                f"{each.vacuum:.1f}",
            ]
            for each in purges
        ],
    )


def _first_executions(is_over: Callable[[], bool]) -> float:
    """Microseconds, the median; of one at least."""
    times = []
    while not times or not is_over():
        start = time.perf_counter()
        first(next(NUMBERS))
        times.append(time.perf_counter() - start)
    return 1e6 * median(times)


def _purge(done: multiprocessing.SimpleQueue) -> None:
    from idempotency.maintenance import purge

    connection.ensure_connection()
    cpu, wal, begin = cpu_of_server(), _wal(), time.perf_counter()
    deleted = purge().records
    seconds = time.perf_counter() - begin
    done.put((deleted, seconds, (cpu_of_server() - cpu) / 1000, _wal() - wal))


def _wal() -> float:
    """Bytes that our session has written."""
    ask("SELECT pg_stat_force_next_flush()::text")
    [size] = ask("SELECT wal_bytes FROM pg_stat_get_backend_wal(pg_backend_pid())")
    return float(size)
