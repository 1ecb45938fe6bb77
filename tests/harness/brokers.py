"""Real brokers beside the embedded one: what a worker must be told to use each."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, LiteralString

import psycopg
import pytest
from django.conf import settings
from kombu import Connection
from kombu.exceptions import OperationalError
from pgmq.install import get_embedded_install_sql
from psycopg.conninfo import make_conninfo

from project.servers import Account, Server, is_root
from project.services import throwaway_state
from tests.harness.processes import database_url

VISIBILITY_TIMEOUT = 6
"""Seconds, where a broker has one: longer than these tests hold a message that is alive."""


@dataclass(frozen=True)
class Broker:
    """A broker that answers, and how a process with the tests' settings reaches it."""

    url: str
    options: dict[str, object]
    #: Whether it says of a message that it was delivered before.
    flags: bool
    quorum: bool = False

    @property
    def environment(self) -> dict[str, str]:
        return {
            "TEST_BROKER_URL": self.url,
            "TEST_BROKER_OPTIONS": json.dumps(self.options),
            "TEST_QUORUM": "1" if self.quorum else "",
        }


class RabbitMQ(Server):
    """Debian's RabbitMQ as a private node. (The names: rabbitmq.com/docs/configure.)"""

    name = "rabbitmq"
    start_seconds = 120  # 5 s on a machine of its own, and a minute on one that is busy
    stop_signal = signal.SIGTERM
    orphan_signal = signal.SIGTERM

    @staticmethod
    def program() -> Path:
        """Where it is installed, or would be."""
        return Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def _epmd_port(self) -> int:
        return self.port + 1

    def _prepare(self) -> None:
        for name in ("home", "mnesia", "log"):
            (self.state / name).mkdir(exist_ok=True)
        (self.state / "enabled_plugins").write_text("[].")
        if is_root():
            account = pwd.getpwnam("rabbitmq")
            self.account = Account(user=account.pw_uid, group=account.pw_gid, extra_groups=[])
            self.state.parent.chmod(0o711)
            self.state.chmod(0o711)
            for path in [self.state, *self.state.rglob("*")]:
                shutil.chown(path, account.pw_uid, account.pw_gid)

    def _spawn(self, log: BinaryIO) -> subprocess.Popen[bytes]:
        configuration = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "vm_memory_high_watermark.absolute": "512MiB",
            "disk_free_limit.absolute": "50MB",
            "log.file.level": "warning",
        }
        lines = "".join(f"{name} = {value}\n" for name, value in configuration.items())
        (self.state / "rabbitmq.conf").write_text(lines)
        environment = {
            "HOME": self.state / "home",
            "RABBITMQ_NODENAME": f"tests{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": self.state / "rabbitmq.conf",
            "RABBITMQ_MNESIA_BASE": self.state / "mnesia",
            "RABBITMQ_LOG_BASE": self.state / "log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.state / "enabled_plugins",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": self.port + 20000,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": self._epmd_port,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "LANG": "C.UTF-8",
        }
        given = [f"{name}={value}" for name, value in environment.items()]
        return self._popen(["env", *given, str(self.program())], log)

    def _answers(self) -> bool:
        try:
            with Connection(self.url, connect_timeout=2) as connection:
                connection.ensure_connection(max_retries=1, timeout=2)
        except OperationalError:
            return False
        return True

    def kill(self) -> None:
        # The program is a shell script, and the node its child.
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        super().kill()

    def stop(self) -> None:
        super().stop()
        # The Erlang port mapper was started by the node, and outlives it.
        mapper = ["epmd", "-port", str(self._epmd_port), "-kill"]
        subprocess.run(mapper, check=False, capture_output=True)


class Moto(Server):
    """An emulator of SQS: the protocol is real, the service is not."""

    name = "moto"
    stop_signal = signal.SIGTERM
    orphan_signal = signal.SIGKILL

    @property
    def url(self) -> str:
        return f"sqs://key:secret@127.0.0.1:{self.port}"

    def _prepare(self) -> None:
        pass

    def _spawn(self, log: BinaryIO) -> subprocess.Popen[bytes]:
        program = Path(__file__).with_name("emulator.py")
        return self._popen([sys.executable, "-P", str(program), str(self.port)], log)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
        except OSError:
            return False
        return True


@contextmanager
def started(server: type[Server]) -> Iterator[Server]:
    with throwaway_state() as state:
        running = server(state)
        try:
            running.start()
            yield running
        finally:
            running.stop()


def on_rabbitmq(server: Server, *, quorum: bool) -> Broker:
    return Broker(server.url, {"confirm_publish": True}, flags=True, quorum=quorum)


@contextmanager
def rabbitmq(*, quorum: bool) -> Iterator[Broker]:
    if not RabbitMQ.program().exists():
        pytest.skip("RabbitMQ is not installed: apt-get install rabbitmq-server")
    with started(RabbitMQ) as server:
        yield on_rabbitmq(server, quorum=quorum)


def on_pgmq(database: str, visibility_timeout: int = VISIBILITY_TIMEOUT) -> Broker:
    """Queues in an empty database."""
    with psycopg.connect(database) as queues:
        queues.execute(get_embedded_install_sql())
    options = {
        # Not by the URL: over that, its client takes DATABASE_URL from the environment.
        "conn_string": database,
        "init_extension": False,
        "visibility_timeout": visibility_timeout,
        "wait_time_seconds": 1,
    }
    return Broker("pgmq://", options, flags=False)


@contextmanager
def pgmq() -> Iterator[Broker]:
    """The queues in a database of their own, on the tests' PostgreSQL."""
    name = f"pgmq_{uuid.uuid4().hex}"
    on_server(f"CREATE DATABASE {name}")
    try:
        yield on_pgmq(make_conninfo(database_url(), dbname=name))
    finally:
        on_server(f"DROP DATABASE {name} WITH (FORCE)")


def on_server(command: LiteralString) -> None:
    """Run it on a connection that ends at once: tests terminate every other of their database."""
    with psycopg.connect(database_url(), autocommit=True) as server:
        server.execute(command)


def on_sqs(server: Server, visibility_timeout: int = VISIBILITY_TIMEOUT) -> Broker:
    options = {
        "region": "us-east-1",
        "is_secure": False,
        "visibility_timeout": visibility_timeout,
        "wait_time_seconds": 1,
        "polling_interval": 0.1,
    }
    return Broker(server.url, options, flags=False)


@contextmanager
def sqs() -> Iterator[Broker]:
    with started(Moto) as server:
        yield on_sqs(server)


def on_valkey(url: str, visibility_timeout: int = VISIBILITY_TIMEOUT) -> Broker:
    options = {
        "visibility_timeout": visibility_timeout,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        # A worker killed while it looks leaves a lock behind, under which nobody else looks.
        "unacked_mutex_expire": visibility_timeout,
    }
    return Broker(url, options, flags=True)


@contextmanager
def valkey() -> Iterator[Broker]:
    yield on_valkey(settings.CELERY_BROKER_URL)


BROKERS: dict[str, Callable[[], AbstractContextManager[Broker]]] = {
    "valkey": valkey,
    "rabbitmq": lambda: rabbitmq(quorum=False),
    "rabbitmq-quorum": lambda: rabbitmq(quorum=True),
    "pgmq": pgmq,
    "sqs": sqs,
}
