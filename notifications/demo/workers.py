"""The worker processes of one lane: started, killed, replaced, and gone at the end."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from project.servers import dies_with_parent
from project.services import CHECKOUT

CONCURRENCY = 2
STOP_SECONDS = 15
# So short that every redelivery happens while somebody looks, and with keys that they can read.
SHOWN = {
    "VISIBILITY_TIMEOUT": "8",
    "LEASE_SECONDS": "5",
    "STORE_KEY": "1",
    "EMAIL_TIMEOUT": "40",  # a mail is held until its second message was deferred
}


class Worker:
    """One Celery worker with its pool processes, in a process group of its own."""

    def __init__(self, name: str, *, queue: str, log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self._log = log
        self._environment = dict(environment)
        self._command = [sys.executable, "-m", "celery", "--app=project", "worker"]
        self._command += [f"--hostname={name}@%h", f"--queues={queue}"]
        self._command += [f"--concurrency={CONCURRENCY}", "--loglevel=WARNING"]
        self._command += ["--include=notifications.demo.tasks"]
        # A worker asks and watches no other one here, so it starts sooner.
        self._command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id, which is the id of the group as well; 0 when it does not run."""
        return self._process.pid if self._process else 0

    @property
    def has_ended(self) -> bool:
        """Whether it was started, and has ended by itself or by somebody else."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 our own command line
                self._command,
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGKILL),
            )

    def kill(self) -> None:
        """SIGKILL the worker and its pool processes."""
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def ask_to_stop(self) -> None:
        """It ends after the tasks that run; see :meth:`stop`."""
        if self._process:
            self._process.terminate()

    def stop(self) -> None:
        """Wait for its end, 15 seconds at most, then kill whatever is left."""
        if self._process:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
            self.kill()

    def owns(self, pid: int) -> bool:
        """Whether a living process is one of its pool processes."""
        with suppress(ProcessLookupError):
            return bool(self.pid) and pid != self.pid and os.getpgid(pid) == self.pid
        return False


def stop_all(workers: list[Worker], *, at_once: bool) -> None:
    """Stop them side by side."""
    for worker in workers:
        worker.kill() if at_once else worker.ask_to_stop()
    for worker in workers:
        worker.stop()
