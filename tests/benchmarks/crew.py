"""A worker whose batches are timed, and what its processes take of the machine."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
import uuid
from pathlib import Path

from celery import Task
from kombu import Connection

from tests.benchmarks import tasks_plain
from tests.benchmarks.celery import app
from tests.harness.brokers import Broker
from tests.harness.processes import Process
from tests.harness.waiting import wait_until

SECONDS = 120
"""How long a batch, or the start of a worker, may take on a machine that is busy."""


class Crew(Process):
    """``celery worker`` with so many children, on a queue of its own."""

    def __init__(self, broker: Broker, *, children: int, folder: Path, **more: str) -> None:
        self.children, self.folder = children, folder
        self._connection = Connection(broker.url, transport_options=broker.options)
        self._producer = app.amqp.Producer(self._connection)
        self.queue = f"bench-{uuid.uuid4().hex}"
        command = ["-m", "celery", "-A", "tests.benchmarks.celery", "worker", "-Q", self.queue]
        command += ["-c", str(children), "-P", "prefork", "--loglevel", "INFO"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        environment = {
            **broker.environment,
            "TEST_QUEUE": self.queue,
            "VISIBILITY_TIMEOUT": "3600",
            "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings",
            **more,
        }
        super().__init__(command, log=folder / f"{self.queue}.log", environment=environment)

    def __enter__(self) -> Crew:
        try:
            wait_until(self._is_ready, "the worker to be ready", seconds=SECONDS)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._connection.release()
        if kind is not None:  # its children may be held for good
            self.kill()
            return
        os.kill(self.pid, signal.SIGTERM)
        self.wait(seconds=SECONDS)

    def _is_ready(self) -> bool:
        assert self.running, self.log.read_text()
        return " ready." in self.log.read_text()

    def batch(self, task: Task, numbers: list[int]) -> tuple[float, float]:
        """Seconds by the clock, and of processors, for one task of a batch.

        Every child is held until the whole batch is in the queue, and rings when it has come to
        the end of it: that nobody publishes meanwhile, and nobody asks how far it is.
        """
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            folder = Path(name)
            self._send(tasks_plain.wait, [(name, child) for child in range(self.children)])
            self._send(task, [(number,) for number in numbers])
            self._send(tasks_plain.ring, [(name, child) for child in range(self.children)])
            self._wait_for(folder, "waits-*")
            cpu, begin = self.cpu(), time.time()
            (folder / "open").touch()
            self._wait_for(folder, "rang-*[0-9]")
            cpu = self.cpu() - cpu
            end = max(float(rang.read_text()) for rang in folder.glob("rang-*[0-9]"))
        return (end - begin) / len(numbers), cpu / len(numbers)

    def _send(self, task: Task, calls: list[tuple[object, ...]]) -> None:
        for arguments in calls:
            task.apply_async(arguments, queue=self.queue, producer=self._producer)

    def _wait_for(self, folder: Path, pattern: str) -> None:
        wait_until(
            lambda: len(list(folder.glob(pattern))) == self.children,
            f"{self.children} of {pattern}",
            seconds=SECONDS,
        )

    def processes(self) -> list[int]:
        """The worker and its children."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]

    def cpu(self) -> float:
        """Seconds for which all threads of all its processes were on a processor.
        (docs.kernel.org/scheduler/sched-stats.html, /proc/<pid>/schedstat)"""
        threads = [
            thread for pid in self.processes() for thread in Path(f"/proc/{pid}/task").iterdir()
        ]
        return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9

    def memory(self) -> float:
        """Megabytes of a child that it shares with nobody, plus its share of what it does: the
        mean. (proc(5), /proc/pid/smaps, Pss)"""
        children = self.processes()[1:]
        sizes = [
            re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
            for pid in children
        ]
        return sum(int(size.group(1)) for size in sizes if size) / 1024 / len(children)
