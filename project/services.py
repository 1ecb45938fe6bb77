"""The embedded servers of a checkout: where they live, who runs them, where they answer.

``python -m project.services run COMMAND`` runs a command beside them.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from django.core.exceptions import ImproperlyConfigured

from project.postgresql import PostgreSQL
from project.servers import dies_with_parent, is_root, write_private
from project.valkey import Valkey

CHECKOUT = Path(__file__).resolve().parent.parent
NAME = "django-transactional-idempotency"


@dataclass(frozen=True)
class Servers:
    """Both servers; one that was not wanted has no port and is not in the environment."""

    postgresql: PostgreSQL
    valkey: Valkey

    @property
    def database_url(self) -> str:
        return self.postgresql.url

    @property
    def broker_url(self) -> str:
        return self.valkey.url

    def environment(self) -> dict[str, str]:
        """The variables that lead ``project.settings`` to the servers that were started."""
        by_variable = {"DATABASE_URL": self.postgresql, "CELERY_BROKER_URL": self.valkey}
        return {variable: server.url for variable, server in by_variable.items() if server.port}


def lasting_state() -> Path:
    """The folder in which this checkout's servers keep their data from run to run.

    In the checkout; for root, whose home PostgreSQL's account cannot enter, under ``/var/lib``.
    """
    if not is_root():
        return CHECKOUT / ".state"
    return Path("/var/lib") / NAME / hashlib.sha256(bytes(CHECKOUT)).hexdigest()[:16]


@contextmanager
def throwaway_state() -> Iterator[Path]:
    """A folder for servers that nobody needs afterwards; removed at the end."""
    state = Path(tempfile.mkdtemp(prefix=f"{NAME}-", dir="/var/lib" if is_root() else None))
    try:
        yield state
    finally:
        shutil.rmtree(state)


@contextmanager
def running(state: Path, *, without: Collection[str] = ()) -> Iterator[Servers]:
    """Run both servers on the folder *state* while the block runs.

    *without* names the variables (``DATABASE_URL``, ``CELERY_BROKER_URL``) whose server is not
    wanted. Raises ``RuntimeError`` when another process runs servers on this folder.
    """
    _make(state)
    servers = Servers(PostgreSQL(state), Valkey(state))
    with ExitStack() as stack:
        stack.enter_context(_owned(state))
        stack.callback((state / "urls.json").unlink, missing_ok=True)
        stack.enter_context(_stopped(servers))
        if "DATABASE_URL" not in without:
            servers.postgresql.start()
        if "CELERY_BROKER_URL" not in without:
            servers.valkey.start()
        write_private(state / "urls.json", json.dumps(servers.environment()))
        yield servers


def database_url() -> str:
    """Where this checkout's PostgreSQL runs now, else ``ImproperlyConfigured``."""
    return _url_of("DATABASE_URL")


def broker_url() -> str:
    """Where this checkout's Valkey runs now, else ``ImproperlyConfigured``."""
    return _url_of("CELERY_BROKER_URL")


def _url_of(variable: str) -> str:
    noted = _noted_urls(lasting_state())
    if variable not in noted:
        raise ImproperlyConfigured(
            f"{variable} is not set and the embedded servers are not running. Start them with "
            "`make serve`, or run your command as `python -m project.services run COMMAND`."
        )
    return noted[variable]


def _noted_urls(state: Path) -> dict[str, str]:
    try:
        with (state / "lock").open() as lock:
            if _locked(lock, fcntl.LOCK_SH):
                return {}  # nobody runs the servers: whatever the note says is out of date
        return dict(json.loads((state / "urls.json").read_text()))
    except FileNotFoundError:
        return {}


def _make(state: Path) -> None:
    if is_root() and not state.parent.exists():
        state.parent.mkdir()
        state.parent.chmod(0o755)  # whatever the umask; PostgreSQL's account passes through
    if not state.exists():
        state.mkdir(mode=0o700)


@contextmanager
def _owned(state: Path) -> Iterator[None]:
    # A lock and not a pid: it ends with its owner, however that dies.
    with (state / "lock").open("a") as lock:
        deadline = time.monotonic() + 1  # one who only asks for a URL holds it for a moment
        while not _locked(lock, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"Another process runs the servers of {state}. Stop it first, or run your "
                    "command without `project.services run`: it finds them."
                )
            time.sleep(0.02)
        yield


def _locked(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and its like for the block: a second one must not leave a process behind."""
    ours = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in ours]
    try:
        yield
    finally:
        for number, handler in zip(ours, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _stopped(servers: Servers) -> Iterator[None]:
    try:
        yield
    finally:
        with undisturbed():
            servers.valkey.stop()
            servers.postgresql.stop()


def _run(command: Sequence[str], *, throwaway: bool) -> int:
    wanted = ("DATABASE_URL", "CELERY_BROKER_URL")
    given = [variable for variable in wanted if os.environ.get(variable)]
    with ExitStack() as stack:
        state = stack.enter_context(throwaway_state()) if throwaway else lasting_state()
        servers = stack.enter_context(running(state, without=given))
        return _wait_for(command, os.environ | servers.environment())


def _wait_for(command: Sequence[str], environment: dict[str, str]) -> int:
    with subprocess.Popen(  # noqa: S603 what the developer asked for
        command, env=environment, preexec_fn=dies_with_parent(signal.SIGTERM)
    ) as process:

        def pass_on(number: int, _frame: FrameType | None) -> None:
            # From the terminal, the command has got it as well; twice would mean "at once".
            if not (number == signal.SIGINT and sys.stdin.isatty()):
                process.send_signal(number)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, pass_on)
        status = process.wait()
    return status if status >= 0 else 128 - status


def _clean(state: Path) -> int:
    if state.exists():
        with _owned(state):
            shutil.rmtree(state)
    if is_root():
        with suppress(OSError):  # another checkout's data are there
            state.parent.rmdir()
    return 0


def end_in_order() -> None:
    """Let Ctrl-C, SIGTERM and a closed terminal unwind the stack, so that everything is stopped.

    A shell starts what it puts into the background with Ctrl-C ignored: that is undone.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)


def _terminated(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status of the command."""
    parser = argparse.ArgumentParser(prog="python -m project.services")
    subcommands = parser.add_subparsers(required=True)
    run = subcommands.add_parser("run", help="run a command beside the embedded servers")
    run.add_argument("--throwaway", action="store_true", help="keep nothing afterwards")
    run.add_argument("command", nargs=argparse.PARSER, metavar="COMMAND")
    run.set_defaults(act=lambda given: _run(given.command, throwaway=given.throwaway))
    clean = subcommands.add_parser("clean", help="remove the embedded servers' data")
    clean.set_defaults(act=lambda _given: _clean(lasting_state()))
    options = parser.parse_args(arguments)
    end_in_order()
    try:
        return int(options.act(options))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (OSError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
