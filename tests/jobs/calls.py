"""What a test calls in a process of its own; see `tests.harness.processes.Call`."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from django.db import connections

from idempotency import events, execute
from idempotency.attempts import Delivery, delivery_finders
from project.celery import app
from tests.harness.gates import reach
from tests.harness.waiting import wait_until
from tests.jobs import tasks
from tests.jobs.models import Effect

fork = multiprocessing.get_context("fork")


def outcome(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What became of a call, in JSON."""
    try:
        return ["returned", function(*arguments)]
    except Exception as error:
        return ["raised", type(error).__name__]


def run(task: str, key: str) -> list[Any]:
    """Run a task's body here and now."""
    return outcome(getattr(tasks, task), key)


def run_twice_and_in_a_fork(key: str) -> None:
    """Two duplicates: one in this process, one in its fork, which ends first."""
    events.GATHER_FOR = 3600
    for _ in range(2):
        run("transactional", key)
    connections.close_all()
    child = fork.Process(target=_run_and_write, args=(key,))
    child.start()
    child.join()


def _run_and_write(key: str) -> None:
    run("transactional", key)
    events.write_at_end()


class Repeated(Delivery):
    """A message that may have been here before."""

    repeated = True


def run_until_soft_time_limit(task: str, key: str, repeated: bool = False) -> list[Any]:
    """The same, with SIGUSR1 as the soft time limit; then write a row of one's own."""
    if repeated:
        delivery_finders.insert(0, lambda function: Repeated())

    def strike(*_: Any) -> None:
        raise SoftTimeLimitExceeded

    signal.signal(signal.SIGUSR1, strike)
    ended = outcome(getattr(tasks, task), key)
    tasks.effect(key, "written afterwards")
    reach("afterwards")
    return ended


def stampede(number: int, wait_seconds: float, hold: bool) -> list[list[Any]]:
    """So many processes execute one key at once: what became of each.

    With ``hold``, the body runs until all the others have ended; else until all have begun.
    """
    begun, barrier, results = fork.Value("i", 0), fork.Barrier(number), fork.SimpleQueue()
    connections.close_all()
    arguments = (begun, barrier, results, timedelta(seconds=wait_seconds), hold)
    processes = [fork.Process(target=_one_of_many, args=arguments) for _ in range(number)]
    for process in processes:
        process.start()
    return [results.get() for _ in processes]


def _one_of_many(
    counter: Any,
    barrier: Barrier,
    results: SimpleQueue,
    wait: timedelta,
    hold: bool,
) -> None:
    def body() -> int:
        tasks.effect("key", "effect")
        # One of the number runs the body and so comes later than the others.
        goal = barrier.parties - 1 if hold else barrier.parties
        wait_until(lambda: counter.value >= goal, "the other processes", seconds=60)
        return os.getpid()

    def count() -> None:
        with counter.get_lock():
            counter.value += 1

    def attempt() -> list[Any]:
        done = execute(body, key="key", scope="stampede", wait=wait)
        return [done.result, done.replayed]

    connections["default"].ensure_connection()
    barrier.wait()
    if not hold:
        count()
    results.put(outcome(attempt))
    if hold:
        count()


def publish(signatures: list[dict[str, Any]]) -> list[str]:
    """Publish each to the queue of this process's settings; their task ids."""
    return [app.signature(each).apply_async().id for each in signatures]


def hold_in_body(using: str) -> None:
    """Run a transactional body on a database that comes to its gate and stays there."""

    def body() -> None:
        Effect.objects.using(using).create(key="key", note="effect", pid=os.getpid())
        reach("in the body")

    execute(body, key="key", scope="test", using=using)
