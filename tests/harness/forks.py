"""Child processes that are forked from one which has Django imported already: a few milliseconds
each, and no connection or thread of the test's own process is in them."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.harness.waiting import wait_until

FORKS = multiprocessing.get_context("forkserver")
# Imported by the server, once; the first sets Django up.
FORKS.set_forkserver_preload(["tests.harness.ready", "tests.crashes.child"])


class Fork:
    """``target(line, *arguments)`` in a process of its own; ``line`` is the other end of ours."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        self.line: Connection
        self.line, theirs = FORKS.Pipe()
        self._process = FORKS.Process(target=target, args=(theirs, *arguments))
        self._process.start()
        theirs.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def freeze(self) -> None:
        """Stop it in mid-instruction."""
        self.signal(signal.SIGSTOP)
        wait_until(self._is_stopped, f"process {self.pid} to be stopped")

    def wake(self) -> None:
        """Let it go on as if no time had passed."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL it, and wait until it is gone."""
        self._process.kill()
        self.wait()

    def wait(self, *, seconds: float = 20) -> None:
        """Wait for its end."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"process {self.pid} does not end"

    def end(self) -> None:
        """Leave nothing of it behind. May be called twice."""
        if not self.line.closed:
            self.kill()
            self._process.close()
            self.line.close()

    def _is_stopped(self) -> bool:
        # After the name, which is in brackets, the state comes first. (proc(5), stat)
        text = Path(f"/proc/{self.pid}/stat").read_text()
        return text.rpartition(")")[2].split()[0] == "T"
