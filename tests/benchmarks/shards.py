"""``python -m tests.benchmarks.shards``: how jobs scale with the servers that their rows are on.

The same threads do jobs on one, two and four PostgreSQL servers, each of which serves two jobs at a
time. A job waits on its server for 100 ms, in a transaction that writes one row and, under
``@idempotent``, its record; ``using=`` sends both to the server of the row. The control is the same
row in a bare transaction. So the servers limit, as where each has a machine of its own, and not the
one machine that all of them and the threads are on here.

Only ratios to one server are told: the median of ``ROUNDS`` rounds (5), each of which runs
everything once, for ``SECONDS`` (4), in an order of its own.
"""

import os
import random
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from time import perf_counter

import django

from project import services
from project.postgresql import PostgreSQL

SERVERS = (1, 2, 4)
AT_A_TIME = 2
THREADS = 2 * AT_A_TIME * max(SERVERS)
WAIT = 0.1
SECONDS = float(os.environ.get("SECONDS") or 4)
ROUNDS = int(os.environ.get("ROUNDS") or 5)

Job = Callable[[str, int], object]
NUMBERS = count()


def shard(number: int) -> str:
    return f"shard{number}"


@contextmanager
def databases() -> Iterator[None]:
    """Four servers that nobody needs afterwards; an alias with a pool for each."""
    with ExitStack() as stack:
        urls = []
        for _ in range(max(SERVERS)):
            server = PostgreSQL(stack.enter_context(services.throwaway_state()))
            stack.callback(server.stop)
            server.start()
            urls.append(server.url)
        os.environ |= {"DATABASE_URL": urls[0], "CELERY_BROKER_URL": "redis://127.0.0.1:1"}
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
        django.setup()
        from django.core.management import call_command
        from django.db import connections

        from project.settings import database

        pool = {"pool": {"min_size": AT_A_TIME, "max_size": AT_A_TIME, "timeout": 60}}
        for number, url in enumerate(urls):
            given = connections.settings["default"] | database(url) | {"OPTIONS": pool}
            connections.settings[shard(number)] = given
            stack.callback(connections[shard(number)].close_pool)  # type: ignore[attr-defined] # PostgreSQL's
            call_command("migrate", database=shard(number), run_syncdb=True, verbosity=0)
        connections.close_all()
        yield


def jobs() -> dict[str, Job]:
    """The job, protected and bare."""
    from django.db import connections, transaction

    from idempotency import idempotent

    def work(using: str, number: int) -> None:
        with connections[using].cursor() as cursor:
            cursor.execute(
                "INSERT INTO jobs_effect (key, note, pid, created_at) "
                "SELECT %s, '', 0, now() FROM pg_sleep(%s)",
                [number, WAIT],
            )

    def bare(using: str, number: int) -> None:
        with transaction.atomic(using=using):
            work(using, number)

    protected = idempotent(key="number", scope="bench", using=lambda using, number: using)(work)
    return {"under `@idempotent`": protected, "bare": bare}


def throughput(job: Job, servers: int) -> float:
    """Jobs a second of all threads."""
    from django.db import connections

    done: list[int] = []
    begin = perf_counter()

    def run() -> None:
        finished = 0
        while perf_counter() < begin + SECONDS:
            number = next(NUMBERS)
            job(shard(number % servers), number)
            finished += 1
            connections[shard(number % servers)].close()  # back into the pool
        done.append(finished)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (perf_counter() - begin)


def main() -> None:
    with databases():
        table = jobs()
        ratios: dict[str, list[dict[int, float]]] = {name: [] for name in table}
        for _ in range(ROUNDS):
            for name in random.sample([*table], len(table)):
                sample = random.sample(SERVERS, len(SERVERS))
                told = {servers: throughput(table[name], servers) for servers in sample}
                ratios[name].append({servers: told[servers] / told[1] for servers in SERVERS})
    print("| A job | " + " | ".join(f"{servers} servers" for servers in SERVERS[1:]) + " |")
    print("| --- |" + " --: |" * len(SERVERS[1:]))
    for name, rounds in ratios.items():
        medians = [statistics.median(each[servers] for each in rounds) for servers in SERVERS[1:]]
        print(f"| {name} | " + " | ".join(f"{median:.2f}" for median in medians) + " |")


if __name__ == "__main__":
    main()
