"""``python -m tests.benchmarks.admin``: what each page of the admin asks of a large database.

A server of its own is filled with ``ROWS`` records and a tenth as many events; then each page is
asked for by a superuser. Its database time is that of all its statements, the median of several
times, on a warm cache: once as the server's process was on a processor, which is the same whatever
else the machine does, and once by the clock on the wall. The exit status is 0 if no page takes more
than 100 ms of the former, 1 if one does, and 2 if nothing could be measured.
"""

import os
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import django

from project import services

LIMIT_MS = 100
TIMES = 5
FEWEST = 20_000
BEGIN = perf_counter()


@dataclass(frozen=True)
class Measured:
    page: str
    statements: int
    cpu: float
    wall: float
    slowest: str

    @property
    def is_fast(self) -> bool:
        return self.cpu <= LIMIT_MS


@contextmanager
def database(rows: int) -> Iterator[None]:
    """A server that nobody needs afterwards, whatever ``DATABASE_URL`` names, and full."""
    with (
        services.throwaway_state() as state,
        services.running(state, without={"CELERY_BROKER_URL"}) as servers,
    ):
        os.environ |= {**servers.environment(), "CELERY_BROKER_URL": "memory://"}
        os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
        django.setup()
        from django.core.management import call_command

        from tests.benchmarks.fill import fill

        call_command("migrate", verbosity=0)
        fill(rows, say)
        yield


def measure() -> list[Measured]:
    """Each page of the admin."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client

    from tests.benchmarks.pages import pages, statements_of

    settings.ALLOWED_HOSTS = ["testserver"]
    settings.DEBUG = False  # else Django keeps each statement
    with connection.cursor() as cursor:  # what other processes do for us would not be counted
        cursor.execute("SET max_parallel_workers_per_gather = 0")
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    measured = []
    for page, get in pages(client):
        statements_of(get)  # warms the cache
        runs = [statements_of(get) for _ in range(TIMES)]
        cpu = statistics.median(sum(each.cpu for each in run) for run in runs)
        wall = statistics.median(sum(each.wall for each in run) for run in runs)
        slowest = max(runs[-1], key=lambda statement: statement.cpu)
        measured.append(Measured(page, len(runs[-1]), cpu, wall, slowest.sql))
        say(f"{page}: {cpu:.1f} ms, {wall:.1f} ms by the clock")
    return measured


def purged() -> Iterator[str]:
    """How fast what is forgotten is counted, and deleted."""
    from idempotency.maintenance import purge
    from tests.benchmarks.pages import cpu_of_server

    for verb, is_rehearsal in (("counted", True), ("deleted", False)):
        cpu, begin = cpu_of_server(), perf_counter()
        done = purge(dry_run=is_rehearsal)
        cpu, wall = (cpu_of_server() - cpu) / 1000, perf_counter() - begin
        rows = done.records + done.events
        yield (
            f"{done.records:,} records and {done.events:,} events {verb} in {cpu:.1f} s of the "
            f"server's processor, {wall:.1f} s by the clock: {rows / cpu:,.0f} and "
            f"{rows / wall:,.0f} rows/s."
        )


def table(measured: list[Measured]) -> Iterator[str]:
    """For the docs."""
    yield f"| Page | Statements | Database time, ms | By the clock, ms | At most {LIMIT_MS} ms |"
    yield "| --- | --: | --: | --: | --- |"
    for each in measured:
        verdict = "yes" if each.is_fast else "**no**"
        yield f"| {each.page} | {each.statements} | {each.cpu:.1f} | {each.wall:.1f} | {verdict} |"


def say(text: str) -> None:
    print(f"{perf_counter() - BEGIN:6.0f} s  {text}", file=sys.stderr, flush=True)


def main() -> int:
    rows = int(os.environ.get("ROWS") or 10_000_000)
    if rows < FEWEST:
        print(f"ROWS={rows} is too few: with less than {FEWEST:,}, some state has no record.")
        return 2
    with database(rows):
        measured = measure()
        print(*table(measured), sep="\n")
        print(*purged(), sep="\n", flush=True)
    slow = [each for each in measured if not each.is_fast]
    for each in slow:
        print(f"\n{each.page}, slowest statement:\n{each.slowest}")
    return 1 if slow else 0


if __name__ == "__main__":
    services.end_in_order()
    sys.exit(main())
