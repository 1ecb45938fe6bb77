"""How long it takes to be told that somebody else holds a key."""

from __future__ import annotations

import multiprocessing
import time
from statistics import median

from django.db import connection

from idempotency import execute
from idempotency.exceptions import AlreadyRunning
from tests.benchmarks.rounds import NUMBERS
from tests.execution.bodies import Gate

PROCESSES = 16
#: Within which the slowest of them has come, on a machine that is busy.
SECONDS = 120


def busy(tries: int) -> float:
    """Milliseconds until one of 16 processes that ask at once is told; the median."""
    fork = multiprocessing.get_context("fork")
    barrier, answers, gate = fork.Barrier(PROCESSES), fork.Queue(), Gate()
    key = next(NUMBERS)

    def ask() -> None:
        connection.ensure_connection()
        answers.put([_refused(key) for _ in range(tries) if barrier.wait(SECONDS) >= 0])

    connection.close()  # not to be shared with the children
    with gate.held(lambda: execute(gate.pass_, key=key, scope="bench.busy")):
        processes = [fork.Process(target=ask) for _ in range(PROCESSES)]
        for process in processes:
            process.start()
        times = [each for _ in processes for each in answers.get(timeout=SECONDS)]
        for process in processes:
            process.join()
    return 1000 * median(times)


def _refused(key: int) -> float:
    start = time.perf_counter()
    try:
        execute(lambda: None, key=key, scope="bench.busy")
    except AlreadyRunning:
        return time.perf_counter() - start
    raise AssertionError("the key was free")
