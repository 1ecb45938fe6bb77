"""Real Celery workers, each in a process group of its own, and the queue that they read."""

import json
import os
import signal
from pathlib import Path

from celery.canvas import Signature
from celery.result import AsyncResult

from project.celery import app
from tests.harness.gates import Gates
from tests.harness.processes import Process
from tests.harness.waiting import wait_until


class Worker(Process):
    """``celery -A project worker`` on one queue; constructed, it is still starting."""

    def __init__(
        self,
        queue: str,
        gates: Gates,
        *,
        log: Path,
        concurrency: int = 1,
        visibility_timeout: int = 2,
        lease: float = 60,
        database: str | None = None,
        pool: str = "prefork",
        **more: object,
    ) -> None:
        environment = {
            "TEST_QUEUE": queue,
            "VISIBILITY_TIMEOUT": str(visibility_timeout),
            "LEASE_SECONDS": str(lease),
            **gates.environment,
            **{name: str(value) for name, value in more.items()},
        }
        if database:
            environment["DATABASE_URL"] = database
        command = ["-m", "celery", "-A", "project", "worker", "-Q", queue, "-c", str(concurrency)]
        command += ["-P", pool]
        command += ["-n", f"{log.stem}@%h", "--loglevel", "INFO"]
        # They only wait for other workers to answer.
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        super().__init__(command, log=log, environment=environment)

    def wait_ready(self) -> None:
        """Wait until it takes messages."""

        def ready() -> bool:
            if not self.running:
                raise AssertionError(f"The worker has ended:\n{self.log.read_text()}")
            return " ready." in self.log.read_text()

        wait_until(ready, "the worker to be ready", seconds=40)

    def stop(self) -> None:
        """The warm stop of a deployment: the task in hand ends first."""
        os.kill(self.pid, signal.SIGTERM)
        self.wait()


def kill_child(pid: int) -> None:
    """SIGKILL a pool process, whose worker lives on."""
    os.kill(pid, signal.SIGKILL)


class Queue:
    """One test's queue on the broker."""

    def __init__(self, name: str) -> None:
        self.name = name

    def send(self, signature: Signature) -> AsyncResult:
        """Publish a task or a chain; its later steps go to the worker's own queue."""
        return signature.apply_async(queue=self.name)

    def length(self) -> int:
        """Messages that somebody still has to do: ready, and taken but not acknowledged."""
        with app.connection_for_read() as connection:
            look = connection.default_channel.client.pipeline(transaction=True)
            ready, unacknowledged = look.llen(self.name).hvals("unacked").execute()
        # Each value is [message, exchange, routing key]; the routing key is the queue.
        taken = [json.loads(value)[2] for value in unacknowledged]
        return int(ready) + taken.count(self.name)

    def wait_empty(self, *, seconds: float = 20) -> None:
        """Wait until every message has been acknowledged."""
        empty_looks = 0

        def stays_empty() -> bool:
            # kombu takes a message off the queue first and notes it as taken then.
            nonlocal empty_looks
            empty_looks = 0 if self.length() else empty_looks + 1
            return empty_looks == 10

        wait_until(stays_empty, f"queue {self.name} to be empty", seconds=seconds)


def stored_result(result: AsyncResult) -> bytes:
    """The bytes of the value that a task left in the result backend, undecoded."""
    meta: bytes = app.backend.get(app.backend.get_key_for_task(result.id))
    return meta.partition(b'"result": ')[2].partition(b', "traceback"')[0]
