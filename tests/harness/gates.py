"""Gates: named places in another process's code where a test can hold it.

A gate is open unless the test closes it. The process announces itself at every gate that it
passes, so that a gate also counts how often a place was reached, and by which process.
"""

import math
import os
from pathlib import Path

from tests.harness.waiting import wait_until

DIRECTORY = "TEST_GATES"


class Gates:
    """The gates of one test: files in one directory, which both sides know."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {DIRECTORY: str(directory)}

    def close(self, name: str, *, after: int = 0) -> None:
        """Hold every process that comes to this gate, once so many have passed it."""
        self._bar(name).write_text(str(after))

    def open(self, name: str) -> None:
        """Let all pass, those that wait and those that will come."""
        self._bar(name).unlink(missing_ok=True)

    def arrivals(self, name: str) -> list[int]:
        """The process id of each arrival at this gate, in order."""
        log = self._log(name)
        return [int(line) for line in log.read_text().splitlines()] if log.exists() else []

    def wait_for_arrivals(self, name: str, number: int = 1, *, seconds: float = 20) -> list[int]:
        """Wait until so many have come to this gate; their process ids."""
        wait_until(
            lambda: len(self.arrivals(name)) >= number,
            f"{number} at the gate {name!r}",
            seconds=seconds,
        )
        return self.arrivals(name)

    def reach(self, name: str) -> None:
        """Called in the process: announce it, and wait while the gate is closed."""
        with self._log(name).open("a") as log:
            log.write(f"{os.getpid()}\n")
        number = len(self.arrivals(name))
        # Longer than any test lives; a process that outlives its test is ended by the test.
        wait_until(lambda: number <= self._allowed(name), f"gate {name!r} to open", seconds=120)

    def _allowed(self, name: str) -> float:
        try:
            return int(self._bar(name).read_text() or 0)
        except FileNotFoundError:
            return math.inf

    def _bar(self, name: str) -> Path:
        return self.directory / f"{name}.closed"

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.arrivals"


def reach(name: str) -> None:
    """Announce this process at a gate of the test that started it; nothing without a test."""
    if directory := os.environ.get(DIRECTORY):
        Gates(Path(directory)).reach(name)
