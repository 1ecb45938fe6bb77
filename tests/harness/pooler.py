"""PgBouncer, as a connection pooler between a client and its server."""

import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import BinaryIO

import psycopg

from project.servers import Options, Server, is_root


class PgBouncer(Server):
    """Debian's PgBouncer before the server that *options* names. (pgbouncer.org/config.html)"""

    name = "pgbouncer"
    stop_signal = signal.SIGTERM  # SIGINT waits for its clients
    orphan_signal = signal.SIGTERM
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin")

    def __init__(self, state: Path, *, mode: str, server: Options) -> None:
        super().__init__(state, options=server)
        self.mode = mode
        if is_root():  # it refuses to run as root
            nobody = pwd.getpwnam("nobody")
            self.account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{self.options['dbname']}"

    def _prepare(self) -> None:
        self.state.chmod(0o711)

    def _spawn(self, log: BinaryIO) -> subprocess.Popen[bytes]:
        assert self.program is not None
        server = " ".join(f"{name}='{value}'" for name, value in self.options.items())
        file = self.state / "pgbouncer.ini"
        file.write_text(
            f"[databases]\n* = {server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = {self.mode}\n"
        )
        file.chmod(0o600)
        if self.account:
            shutil.chown(file, self.account["user"], self.account["group"])
        return self._popen([self.program, "-q", str(file)], log)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=5, autocommit=True).close()
        except psycopg.OperationalError:
            return False
        return True
