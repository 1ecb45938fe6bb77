"""A PostgreSQL that can be copied, followed, crashed and succeeded by its copy."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from project.postgresql import PostgreSQL
from project.servers import Options, bare_environment, write_private
from project.services import throwaway_state
from tests.harness.proxy import Proxy
from tests.harness.waiting import wait_until


class Copy(PostgreSQL):
    """A base backup of a running server: restored, or a standby that follows it."""

    def __init__(self, state: Path, *, source: PostgreSQL, follows: bool) -> None:
        super().__init__(state, options=source.options)
        self._source, self._follows = source, follows

    def take(self) -> None:
        """Take the backup now; ``start()`` restores it."""
        self._prepare()

    def _fill(self, fresh: Path) -> None:
        source = conninfo_to_dict(self._source.url)
        write_private(self._secret, source["password"])  # the accounts are copied too
        arguments = ["--pgdata", str(fresh), "--host", source["host"], "--port", source["port"]]
        arguments += ["--username", source["user"], "--checkpoint=fast", "--no-sync"]
        if self._follows:
            arguments += ["--write-recovery-conf"]
        self._run(
            "pg_basebackup", arguments, bare_environment() | {"PGPASSWORD": source["password"]}
        )


class Servers:
    """A primary, and the copies that were made of it."""

    def __init__(self, stack: ExitStack, options: Options) -> None:
        self._stack = stack
        self.primary = PostgreSQL(self._state(), options=options)
        stack.callback(self.primary.stop)
        self.primary.start()

    def copy(self, *, follows: bool) -> Copy:
        """A standby that is up and follows, or a backup that waits to be started."""
        copy = Copy(self._state(), source=self.primary, follows=follows)
        self._stack.callback(copy.stop)
        if follows:
            copy.start()
        else:
            copy.take()
        return copy

    def let_commits_wait(self) -> None:
        """No COMMIT of the primary is answered before the standby has it on disk."""
        ask(self.primary, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        ask(self.primary, "SELECT pg_reload_conf()")
        sync = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_until(lambda: ask(self.primary, sync), "the standby to be synchronous")

    def _state(self) -> Path:
        return self._stack.enter_context(throwaway_state())


@contextmanager
def servers(**options: str) -> Iterator[Servers]:
    """A primary that answers, with these settings; it has our tables and a test's."""
    with ExitStack() as stack:
        yield Servers(stack, options)


def rows(server: PostgreSQL, sql: LiteralString) -> list[Any]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        return connection.execute(sql).fetchall()


def ask(server: PostgreSQL, sql: LiteralString, *parameters: Any) -> Any:
    """The one value that it answers with, if any."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(sql, parameters or None)
        return cursor.fetchone()[0] if cursor.description else None


def wait_received(standby: Copy, primary: PostgreSQL) -> None:
    """Wait until it has all that is committed by now: nobody else waits for that."""
    end = ask(primary, "SELECT pg_current_wal_flush_lsn()")
    received = "SELECT pg_last_wal_receive_lsn() >= %s::pg_lsn"
    wait_until(lambda: ask(standby, received, end), "the standby to have received it")


def cut_off(standby: Copy) -> None:
    """Let it receive nothing more."""
    ask(standby, "ALTER SYSTEM SET primary_conninfo = ''")
    ask(standby, "SELECT pg_reload_conf()")
    receivers = "SELECT count(*) = 0 FROM pg_stat_wal_receiver"
    wait_until(lambda: ask(standby, receivers), "the standby to be cut off")


def crash(server: PostgreSQL) -> None:
    """SIGKILL every process of it, as a machine that loses its power would end them."""
    children = _children(server.pid)
    server.kill()
    for child in children:
        with suppress(ProcessLookupError):  # it has noticed the death of its parent
            os.kill(child, signal.SIGKILL)


def promote(standby: Copy) -> None:
    """Make it a primary, as an operator or a failover manager does."""
    assert ask(standby, "SELECT pg_promote(true, 60)")


def both(one: PostgreSQL, other: PostgreSQL) -> str:
    """For ``DATABASE_URL``: whichever of the two takes writes (PostgreSQL manual, "Specifying
    Multiple Hosts")."""
    return make_conninfo(
        one.url,
        host="127.0.0.1,127.0.0.1",
        port=f"{one.port},{other.port}",
        target_session_attrs="read-write",
        connect_timeout=2,
    )


def through(proxy: Proxy, server: PostgreSQL) -> str:
    """For ``DATABASE_URL``: the server, by an address that a test can lead elsewhere."""
    proxy.target = ("127.0.0.1", server.port)
    return make_conninfo(server.url, port=conninfo_to_dict(proxy.url)["port"])


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # Fields after the name, which is in brackets: state, parent.
            _, its_parent = path.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_parent) == parent:
            found.append(int(path.parent.name))
    return found
