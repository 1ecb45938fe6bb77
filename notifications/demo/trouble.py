"""What the servers of a lane do wrong on purpose, and what is seen of it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue

from notifications.demo.plan import Fault

EVERYBODY = -1


@dataclass(frozen=True)
class Incident:
    """A fault that has struck, or asks for the whole worker of a process to be killed."""

    fault: Fault
    pid: int
    group: int
    recipient: str


@dataclass
class Trouble:
    """One for all servers of a lane.

    Attributes:
        faults: What the first arrival of a recipient's message meets; each strikes once.
        kill: Kills a process of this lane; whether there was one.
        incidents: For the thread that prints and that kills whole workers.
        callers: The processes that were seen to send.
        waiting: The processes that wait for an answer. Their body runs.
    """

    faults: dict[str, Fault] = field(default_factory=dict)
    kill: Callable[[int], bool] = lambda _pid: False
    incidents: SimpleQueue[Incident] = field(default_factory=SimpleQueue)
    callers: set[int] = field(default_factory=set)
    waiting: set[int] = field(default_factory=set)
    _held_groups: set[int] = field(default_factory=set)

    def meets(self, pid: int, recipient: str) -> Fault | None:
        """What the message that has just arrived meets."""
        self.callers.add(pid)
        return self.faults.pop(recipient, None)

    def strike(self, fault: Fault, pid: int, recipient: str) -> None:
        """Let the fault strike its sender, who does not know what became of the message."""
        group = _group(pid)
        aimed = fault in (Fault.KILL_BEFORE, Fault.KILL_AFTER)
        if not aimed or self.kill(pid):
            self.incidents.put(Incident(fault, pid, group, recipient))
        if fault is Fault.KILL_WORKER:
            self.hold(group)

    def hold(self, group: int) -> None:
        """Hold back the answer to every process of a group, or to ``EVERYBODY``."""
        self._held_groups.add(group)

    def release(self, group: int) -> None:
        """Answer them again."""
        self._held_groups.discard(group)

    def is_held(self, pid: int) -> bool:
        """Whether the answer to a process is held back."""
        return bool({EVERYBODY, _group(pid)} & self._held_groups)

    @contextmanager
    def waits(self, pid: int) -> Iterator[None]:
        """Within the block the process waits for its answer."""
        self.waiting.add(pid)
        try:
            yield
        finally:
            self.waiting.discard(pid)


def _group(pid: int) -> int:
    with suppress(ProcessLookupError):
        return os.getpgid(pid)
    return 0
