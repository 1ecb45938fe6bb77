"""How long it takes to be told that somebody else holds a key."""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from statistics import median

from django.db import connection

from idempotency import execute
from idempotency.exceptions import AlreadyRunning
from tests.benchmarks.pages import cpu_of_server
from tests.benchmarks.rounds import NUMBERS
from tests.benchmarks.writing import table
from tests.execution.bodies import Gate

MANY = 16
#: Within which the slowest of them has come, on a machine that is busy.
SECONDS = 120


@dataclass(frozen=True)
class Answer:
    """Milliseconds: by the clock, and of a processor where it is asked and where it is answered."""

    wall: float
    asking: float
    answering: float


def busy(processes: int, tries: int) -> Answer:
    """What one takes of ``processes`` that ask at once, again and again; the medians."""
    fork = multiprocessing.get_context("fork")
    barrier, answers, gate = fork.Barrier(processes), fork.Queue(), Gate()
    key = next(NUMBERS)
    connection.close()  # not to be shared with the children
    with gate.held(lambda: execute(gate.pass_, key=key, scope="bench.busy")):
        children = [
            fork.Process(target=lambda: answers.put(_asked(key, tries, barrier)))
            for _ in range(processes)
        ]
        for child in children:
            child.start()
        told = [each for _ in children for each in answers.get(timeout=SECONDS)]
        for child in children:
            child.join()
    return Answer(*(1000 * median(series) for series in zip(*told, strict=True)))


def _asked(key: int, tries: int, barrier: Barrier) -> list[tuple[float, float, float]]:
    _refused(key)  # the connection and its plans are there
    told = []
    for _ in range(tries):
        server = cpu_of_server()
        barrier.wait(SECONDS)
        wall, asking = _refused(key)
        told.append((wall, asking, (cpu_of_server() - server) / 1000))
    return told


def _refused(key: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        execute(lambda: None, key=key, scope="bench.busy")
    except AlreadyRunning:
        return time.perf_counter() - wall, time.process_time() - cpu
    raise AssertionError("the key was free")


def reckoned(alone: Answer, processes: int, cores: int) -> tuple[float, float]:
    """Milliseconds until half of them are told, if each takes of a processor what one alone takes:
    if a core answers one after the other, and if all have an equal share of the cores."""
    turns = max(1, processes / cores)
    each = alone.asking + alone.answering
    return (turns + 1) / 2 * each, turns * each


def table_of(near: dict[int, Answer], far: dict[int, Answer]) -> str:
    """A row for each number of processes that ask at once."""
    cores = os.cpu_count() or 1
    heads = ["Ask at once", "each answer, ms", "1 ms away, ms", "CPU where it is asked, ms"]
    heads += ["CPU where it is answered, ms", f"reckoned for {cores} cores, ms"]
    rows = []
    for processes, answer in near.items():
        least, most = reckoned(near[1], processes, cores)
        row = [f"**{answer.wall:.2f}**", f"{far[processes].wall:.1f}", f"{answer.asking:.2f}"]
        rows.append([processes, *row, f"{answer.answering:.2f}", f"{least:.2f} to {most:.2f}"])
    more = ", ".join(
        f"{least:.2f} to {most:.2f} on {many} cores"
        for many in (8, MANY)
        for least, most in [reckoned(near[1], MANY, many)]
    )
    return f"{table(heads, rows)}\nReckoned for {MANY} processes, in ms: {more}.\n"
