"""What every process of a storm has seen: one file, one line each, read while it grows.

A line is written by one ``write`` to a file opened for appending, so that lines of many processes
do not mix and a SIGKILL right after it takes nothing back.
"""

import os
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

PUBLISHED, DELIVERED, ENDED, REUSED, STRUCK, READY = "PDEUFR"

_file: int | None = None


def note(*words: object) -> None:
    """Append a line, if this process belongs to a storm."""
    global _file
    if directory := os.environ.get("STORM"):
        if _file is None:
            path = Path(directory) / "journal"
            _file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(_file, ("\t".join(map(str, words)) + "\n").encode())


class Journal:
    """The lines so far, as counts. ``follow`` reads what is new; safe from any thread.

    A *copy* is one published message: a redelivery is the same copy, a deferral is a new one.

    Attributes:
        deliveries: How often a task was about to run, whatever came of it.
        delivered: How often each copy was delivered.
        key_of: The key of each copy.
        ends: How deliveries ended, by task and Celery's state.
        outstanding: Copies that were published or delivered, and of which no delivery has ended.
        running: By process, the key whose delivery has not ended.
        reused: Keys of which a message was refused, for it came with other arguments.
        roots: By key, the first message of each canvas from which one came to its task.
        succeeded_roots: Likewise, of the deliveries that ended well.
        lines: How many lines there were, to see whether anything moves.
        ready: How often a worker has said that it takes messages.
    """

    def __init__(self, directory: Path, struck: Callable[[str, str, int], None]) -> None:
        self._path = directory / "journal"
        self._path.touch(0o600)
        self._offset = 0
        self._rest = b""
        self._lock = threading.Lock()
        self._struck = struck
        self.lines = self.ready = 0
        self.deliveries = 0
        self.published = 0
        self.delivered: Counter[str] = Counter()
        self.key_of: dict[str, str] = {}
        self.copies: defaultdict[str, list[str]] = defaultdict(list)
        self.ends: Counter[tuple[str, str]] = Counter()
        self.ended: set[str] = set()
        self.outstanding: set[str] = set()
        self.running: dict[int, str] = {}
        self.reused: set[str] = set()
        self.roots: defaultdict[str, set[str]] = defaultdict(set)
        self.succeeded_roots: defaultdict[str, set[str]] = defaultdict(set)
        self._root_of: dict[str, str] = {}

    def follow(self) -> None:
        """Read what was written since."""
        with self._lock, self._path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
            self._offset += len(new)
            *lines, self._rest = (self._rest + new).split(b"\n")
            for line in lines:
                self.lines += 1
                kind, *words = line.decode().split("\t")
                self._take[kind](self, *words)

    def redeliveries(self, key: str) -> int:
        """How often a message of the key came again."""
        return sum(max(0, self.delivered[copy] - 1) for copy in self.copies[key])

    def waiting(self) -> int:
        """How many copies are outstanding now."""
        self.follow()
        return len(self.outstanding)

    @property
    def succeeded(self) -> int:
        """How many deliveries have ended well, with an effect or as a duplicate."""
        return sum(number for (_, state), number in self.ends.items() if state == "SUCCESS")

    def roots_that_wait(self) -> set[str]:
        """The first messages of those from which a message is outstanding."""
        return {self._root_of[copy] for copy in self.outstanding}

    def units_lost_by_broker(self) -> set[str]:
        """Units of which the broker took a copy and gave it to no worker. When all is calm."""
        never_came = [copy for copy in self.outstanding if not self.delivered[copy]]
        return {self.key_of[copy].rpartition(".")[0] for copy in never_came}

    def _published(self, copy: str, key: str, root: str) -> None:
        self.published += 1
        self._know(copy, key, root)

    def _delivered(self, copy: str, key: str, root: str, pid: str) -> None:
        self.deliveries += 1
        self.delivered[copy] += 1
        self.running[int(pid)] = key
        self.roots[key].add(root)
        self._know(copy, key, root)

    def _ended(self, copy: str, key: str, task: str, state: str, pid: str) -> None:
        self.ends[task, state] += 1
        self.running.pop(int(pid), None)
        if state == "SUCCESS":
            self.succeeded_roots[key].add(self._root_of[copy])
        if state != "REJECTED":  # given back: the same copy comes again
            self.ended.add(copy)
            self.outstanding.discard(copy)

    def _is_reused(self, key: str) -> None:
        self.reused.add(key)

    def _strike(self, key: str, fault: str, pid: str) -> None:
        self._struck(fault, key, int(pid))

    def _know(self, copy: str, key: str, root: str) -> None:
        self._root_of[copy] = root
        if copy not in self.key_of:
            self.key_of[copy] = key
            self.copies[key].append(copy)
        if copy not in self.ended:
            self.outstanding.add(copy)

    def _is_ready(self) -> None:
        self.ready += 1

    _take = {
        PUBLISHED: _published,
        DELIVERED: _delivered,
        ENDED: _ended,
        REUSED: _is_reused,
        STRUCK: _strike,
        READY: _is_ready,
    }
