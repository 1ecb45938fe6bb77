"""The servers and workers of one storm: started, struck, started again, and gone at the end."""

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg import sql

from notifications.demo.workers import Worker, stop_all
from project.postgresql import PostgreSQL
from project.servers import Server, is_root
from project.services import NAME, undisturbed
from project.valkey import Valkey
from tests.harness import brokers
from tests.harness.brokers import Broker, Moto, RabbitMQ

WORKERS = 3
#: Seconds: short, so that all that comes again comes again soon.
LEASE, VISIBILITY_TIMEOUT = 3, 4
#: Seconds for which the broker stands still, where killing it would empty it.
STANDSTILL = 3


class CannotRun(Exception):
    """A storm that is asked for cannot be had here."""


@contextmanager
def kept_if(is_worth_keeping: Callable[[], bool]) -> Iterator[Path]:
    """A folder for a storm, removed at the end unless there is something to look at in it."""
    state = Path(tempfile.mkdtemp(prefix=f"{NAME}-storm-", dir="/var/lib" if is_root() else None))
    state.chmod(0o711)  # the accounts of PostgreSQL and RabbitMQ pass through
    try:
        yield state
    finally:
        if not is_worth_keeping():
            shutil.rmtree(state)


class Stage:
    """PostgreSQL, a broker, Valkey for the results of chords, and the workers.

    The results have a server of their own, which no fault strikes: Celery acknowledges a task
    whose result could not be stored, and its chord then waits for ever (celery/app/trace.py).
    """

    def __init__(self, state: Path, broker: str) -> None:
        self.state = state
        self.name = broker
        for name in ("orders", "postgresql", "results", "broker"):
            (state / name).mkdir(0o700)
        self.postgresql = PostgreSQL(state / "postgresql")
        self.results = Valkey(state / "results", options={"appendonly": "no"})
        self.server = _server(broker, state / "broker")
        self.workers: list[Worker] = []
        self.frozen: set[int] = set()

    # -- from the first server to the last ------------------------------------------------------

    def start(self) -> dict[str, str]:
        """Start the servers; what every process of the storm has to know of them."""
        self.postgresql.start()
        _make_logins_cheap(self.postgresql.url)
        self.results.start()
        if self.server:
            self.server.start()
        return {
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "DATABASE_URL": self.postgresql.url,
            "CELERY_BROKER_URL": self.results.url,  # else project.settings would look for one
            "STORM_RESULTS": self.results.url,
            "LEASE_SECONDS": str(LEASE),
            "STORM": str(self.state),
            "STORM_PATIENCE": str(2 * self.sleep),
            **self._broker().environment,
        }

    def start_workers(self) -> None:
        """Their environment is that of this process."""
        for number in range(1, WORKERS + 1):
            log = self.state / f"worker-{number}.log"
            worker = Worker(f"storm-{number}", queue="celery", log=log, environment=os.environ)
            worker.start()
            self.workers.append(worker)

    def stop(self, *, at_once: bool) -> None:
        """End everything, whatever has been frozen."""
        with undisturbed():
            for worker in self.workers:
                _signal(worker.pid, signal.SIGCONT)
            stop_all(self.workers, at_once=at_once)
            if self.server:
                self.server.resume()
                self.server.stop()
            self.results.stop()
            self.postgresql.stop()

    def _broker(self) -> Broker:
        if isinstance(self.server, Valkey):
            return brokers.on_valkey(self.server.url, VISIBILITY_TIMEOUT)
        if isinstance(self.server, RabbitMQ):
            return brokers.on_rabbitmq(self.server, quorum=True)
        if isinstance(self.server, Moto):
            return brokers.on_sqs(self.server, VISIBILITY_TIMEOUT)
        with psycopg.connect(self.postgresql.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE queues")
        return brokers.on_pgmq(
            self.postgresql.url.removesuffix("/postgres") + "/queues", VISIBILITY_TIMEOUT
        )

    # -- what can be done to it -----------------------------------------------------------------

    @property
    def sleep(self) -> int:
        """Seconds that a frozen process sleeps: past its lease, and its message comes again."""
        return LEASE + VISIBILITY_TIMEOUT + 2

    @property
    def stall(self) -> int:
        """Seconds after which a message that has not come again will not come."""
        # Without a visibility timeout the longest deferral is 30 s. (idempotency/contrib/celery.py)
        return 45 if self.name == "rabbitmq" else 2 * VISIBILITY_TIMEOUT + 5

    def worker_of(self, pid: int) -> Worker | None:
        """The worker that has this living pool process."""
        return next((worker for worker in self.workers if worker.owns(pid)), None)

    def kill_worker(self, worker: Worker) -> None:
        worker.kill()
        worker.start()

    def revive(self) -> None:
        """Start every worker that has killed itself."""
        for worker in self.workers:
            if worker.has_ended:
                self.kill_worker(worker)

    def crash_broker(self) -> str:
        """What was done: a broker that keeps nothing on disk stands still instead."""
        if self.server is None:
            self.postgresql.crash()
            self.postgresql.start()
            return "crash PostgreSQL, which is the broker too"
        if isinstance(self.server, Moto):
            self.server.suspend()
            _later(STANDSTILL, self.server.resume)
            return "let the broker stand still"
        self.server.kill()
        self.server.start()
        return "crash the broker"

    def crash_postgresql(self) -> None:
        self.postgresql.crash()
        self.postgresql.start()

    def end_a_backend(self, number: float) -> bool:
        """End one session, chosen by a number between 0 and 1."""
        with psycopg.connect(self.postgresql.url, autocommit=True) as connection:
            query = (
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            pids = [pid for (pid,) in connection.execute(query)]
            if not pids:
                return False
            connection.execute("SELECT pg_terminate_backend(%s)", [pids[int(number * len(pids))]])
            return True

    def freeze(self, pid: int, *, group: bool) -> None:
        """SIGSTOP a process, or a worker with all of its processes, and wake it later."""
        self.frozen.add(pid)
        if group:
            _signal(pid, signal.SIGSTOP)
        _later(self.sleep, lambda: self._wake(pid, group))

    def _wake(self, pid: int, group: bool) -> None:
        if group:
            _signal(pid, signal.SIGCONT)
        else:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.frozen.discard(pid)


def _server(broker: str, state: Path) -> Server | None:
    """The server of a broker, or None when it is PostgreSQL."""
    if broker == "valkey":
        return Valkey(state)
    if broker == "sqs":
        return Moto(state)
    if broker == "pgmq":
        return None
    if broker != "rabbitmq":
        raise CannotRun(f"BROKER must be valkey, rabbitmq, pgmq or sqs, not {broker!r}.")
    if not RabbitMQ.program().exists():
        raise CannotRun("RabbitMQ is not installed: apt-get install rabbitmq-server")
    return RabbitMQ(state)


def _make_logins_cheap(url: str) -> None:
    """Celery opens a connection for each task; most of its cost is the hashing of a password."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET scram_iterations = 1")
        password = sql.Literal(connection.info.password)
        connection.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(password))


def _later(seconds: float, act: Callable[[], None]) -> None:
    """Not by the thread that strikes: it may be waiting for a server."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True  # a storm that is stopped does not wait for it
    timer.start()


def _signal(group: int, number: signal.Signals) -> None:
    if group:
        with suppress(ProcessLookupError):
            os.killpg(group, number)
