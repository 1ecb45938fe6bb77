"""Real child processes that a test can freeze and kill."""

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import django
from django.db import connection
from psycopg.conninfo import make_conninfo

from tests.harness.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


def database_url() -> str:
    """The database of this test run, as ``DATABASE_URL`` of a child process."""
    settings = connection.settings_dict
    return make_conninfo(
        host=settings["HOST"],
        port=settings["PORT"],
        dbname=settings["NAME"],
        user=settings["USER"],
        password=settings["PASSWORD"],
    )


class Process:
    """A program with the tests' settings, in a process group of its own, writing to a log."""

    def __init__(self, command: list[str], *, log: Path, environment: dict[str, str]) -> None:
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": "tests.settings",
                    "DATABASE_URL": database_url(),
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def kill(self) -> None:
        """SIGKILL it and every process that it has started, and wait until they are gone."""
        self._signal_group(signal.SIGKILL)
        self._popen.wait()
        # The children die with their group, but a moment later than their parent.
        wait_until(lambda: not self._signal_group(0), f"the processes of {self.pid} to be gone")

    def freeze(self) -> None:
        """Stop it in mid-instruction, with every process that it has started."""
        self._signal_group(signal.SIGSTOP)

    def wake(self) -> None:
        """Let a frozen process go on as if nothing had happened."""
        self._signal_group(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, *, seconds: float = 20) -> int:
        """Wait for its end; its exit status."""
        return self._popen.wait(timeout=seconds)

    def _signal_group(self, number: int) -> bool:
        """Whether there was a living process to receive the signal."""
        if not _living(self.pid):
            return False
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        return True


class Call(Process):
    """``module:function`` called with JSON arguments in a process of its own."""

    def __init__(
        self, function: str, *, log: Path, environment: dict[str, str], **arguments: Any
    ) -> None:
        self._answer = log.with_suffix(".answer")
        command = [
            "-m",
            "tests.harness.processes",
            function,
            json.dumps(arguments),
            str(self._answer),
        ]
        super().__init__(command, log=log, environment=environment)

    def answer(self, *, seconds: float = 30) -> Any:
        """What the function returned, through JSON."""
        status = self.wait(seconds=seconds)
        if status:
            raise AssertionError(f"The call ended with {status}:\n{self.log.read_text()}")
        return json.loads(self._answer.read_text())


def _living(group: int) -> bool:
    """Whether the process group has a process that is not a zombie waiting to be reaped."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # Fields after the name, which is in brackets: state, parent, group.
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return False


def _main(function: str, arguments: str, answer: str) -> None:
    django.setup()
    module, _, name = function.partition(":")
    result = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    Path(answer).write_text(json.dumps(result))


if __name__ == "__main__":
    _main(*sys.argv[1:])
