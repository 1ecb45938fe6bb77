"""A server as a child of this process: started, watched, stopped, killed and started again."""

import ctypes
import importlib.util
import os
import random
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypedDict

STOP_SECONDS = 30
PR_SET_PDEATHSIG = 1

Options = Mapping[str, str]


class Account(TypedDict, total=False):
    """The arguments of ``subprocess`` that choose who runs a program."""

    user: int
    group: int
    extra_groups: list[int]


class Server(ABC):
    """One server process: its port and password stay the same from start to start.

    Start it from a thread that lives as long as the server shall: Linux counts the end of that
    thread as the death of the parent (prctl(2), PR_SET_PDEATHSIG).
    """

    name: str
    stop_signal: signal.Signals
    orphan_signal: signal.Signals
    account: Account = {}
    start_seconds = 30

    def __init__(self, state: Path, *, options: Options | None = None) -> None:
        """Keep everything in the folder *state*; *options* are settings of the server."""
        self.state = state
        self.options = dict(options or {})
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id, or 0 when it does not run."""
        return self.process.pid if self.process else 0

    @property
    @abstractmethod
    def url(self) -> str:
        """Where a client connects, with the password."""

    @abstractmethod
    def _prepare(self) -> None: ...

    @abstractmethod
    def _spawn(self, log: BinaryIO) -> subprocess.Popen[bytes]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    def start(self) -> None:
        """Start, on the port of the last time if there was one; return when it answers.

        Raises ``RuntimeError``, with the end of the server's log, when it does not.
        """
        self._prepare()
        fixed_port, deadline = self.port, time.monotonic() + self.start_seconds
        log_path = self.state / f"{self.name}.log"
        with log_path.open("ab" if fixed_port else "wb") as log:
            while True:
                self.port = fixed_port or free_port()
                self.process = self._spawn(log)
                if self._comes_up(deadline):
                    return
                self.kill()
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.name} does not start: {_tail(log_path)}")
                # The port was taken meanwhile, or processes of a killed PostgreSQL still end.
                time.sleep(0.1)

    def stop(self) -> None:
        """Stop in order, or by SIGKILL after 30 seconds; nothing when it does not run."""
        if self.process is None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """SIGKILL, as a crash would end it; ``start()`` brings it back."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def suspend(self) -> None:
        """SIGSTOP: it answers nobody until ``resume()``."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT; nothing when it was not suspended."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def _comes_up(self, deadline: float) -> bool:
        assert self.process is not None  # noqa: S101 for the type checker
        while self.process.poll() is None and time.monotonic() < deadline:
            if self._answers():
                return True
            time.sleep(0.02)
        return False

    def _popen(
        self, command: list[str], log: BinaryIO, *, stdin: str = ""
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 our own command line
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd="/",
            env=bare_environment(),
            # Ctrl-C in the terminal must not reach it: we stop it when its clients are done.
            start_new_session=True,
            preexec_fn=dies_with_parent(self.orphan_signal),
            **self.account,
        )
        assert process.stdin is not None  # noqa: S101 for the type checker
        with suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(stdin.encode())
        return process


def is_root() -> bool:
    """Whether this process runs as root."""
    return os.geteuid() == 0


def write_private(path: Path, text: str) -> None:
    """Write *text* to a file that only this account can read."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def dies_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """A ``preexec_fn``: the kernel sends *death_signal* to the child when we die (Linux only)."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask_the_kernel() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask_the_kernel


def package_folder(package: str) -> Path:
    """Where an installed package lies; it is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"{package} is not installed: pip install -r requirements.txt")
    return Path(spec.submodule_search_locations[0])


def bare_environment() -> dict[str, str]:
    """Our environment without what would change a PostgreSQL program."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return inherited | {"LC_ALL": "C", "TZ": "UTC"}


def free_port() -> int:
    """A port of the loopback address that nobody uses now."""
    # Below the ports that outgoing connections get: such a connection could take the port while
    # the server is down, or even connect to itself (TCP simultaneous open).
    for _ in range(100):
        port = random.randrange(15000, 32000)  # noqa: S311 no secret
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("No free port between 15000 and 32000 on 127.0.0.1.")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:] or "it said nothing."
