"""PgBouncer, between the tests and their PostgreSQL."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import psycopg
import pytest
from django.db import connection
from psycopg.conninfo import make_conninfo

from project.postgresql import PostgreSQL
from project.servers import Options, Server, is_root, write_private
from project.services import throwaway_state


class PgBouncer(Server):
    """Debian's PgBouncer. (The names of its options: pgbouncer.org/config.html.)

    It refuses to run as root, so root runs it as ``nobody``.
    """

    name = "pgbouncer"
    stop_signal = signal.SIGTERM
    orphan_signal = signal.SIGKILL

    def __init__(self, state: Path, *, options: Options | None = None) -> None:
        super().__init__(state, options={"pool_mode": "transaction", **(options or {})})
        self.account = PostgreSQL(state).account
        self._server = dict(connection.settings_dict)

    @staticmethod
    def program() -> str | None:
        """Where it is installed."""
        return shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")

    @property
    def url(self) -> str:
        return make_conninfo(
            host="127.0.0.1",
            port=self.port,
            dbname=self._server["NAME"],
            user=self._server["USER"],
            password=self._server["PASSWORD"],
        )

    def _prepare(self) -> None:
        users = self.state / "users.txt"
        write_private(users, '"{USER}" "{PASSWORD}"\n'.format_map(self._server))
        if is_root():
            self.state.chmod(0o711)
            shutil.chown(users, self.account["user"], self.account["group"])

    def _spawn(self, log: BinaryIO) -> subprocess.Popen[bytes]:
        options = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(self.state / "users.txt"),
            **self.options,
        }
        lines = ["[databases]", "* = host={HOST} port={PORT}".format_map(self._server)]
        lines += ["[pgbouncer]", *(f"{name} = {value}" for name, value in options.items())]
        configuration = self.state / "pgbouncer.ini"
        configuration.write_text("\n".join(lines))
        return self._popen([str(self.program()), str(configuration)], log)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def pgbouncer(**options: str) -> Iterator[PgBouncer]:
    """A pooler that answers, before the database of this test run."""
    if not PgBouncer.program():
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    with throwaway_state() as state:
        pooler = PgBouncer(state, options=options)
        try:
            pooler.start()
            yield pooler
        finally:
            pooler.stop()


@contextmanager
def behind(pooler: PgBouncer) -> Iterator[None]:
    """The connections of this process, and of those that it starts, go through the pooler."""
    direct = connection.settings_dict["PORT"]
    connection.close()
    connection.settings_dict["PORT"] = pooler.port
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["PORT"] = direct
