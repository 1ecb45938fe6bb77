"""One delivery in a process of its own, held at the n-th point that it comes to."""

import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from django.db import connection
from psycopg.conninfo import conninfo_to_dict

from tests.crashes.child import BEFORE_ACK, deliver
from tests.crashes.situations import Situation, Work
from tests.harness.forks import Fork
from tests.harness.waiting import wait_until
from tests.harness.wire import Wire

#: How long a delivery may take to come to its next point, in seconds.
PATIENCE = 20
#: The server does not crash here: nobody waits for its disk, but who asks for it.
NO_FLUSH = "-c synchronous_commit=off"


@dataclass(frozen=True)
class Point:
    """A moment in the process, or one side of a message to the server."""

    name: str
    is_message: bool = False


class Course:
    """The points of a delivery, in order: each moment of the storage seam and of the body, and
    each message to PostgreSQL, before it arrives and before its reply does.

    Args:
        number: Of the point, counted from 1, at which the delivery is held.
    """

    def __init__(self, situation: Situation, work: Work, wire: Wire, number: int) -> None:
        self.work = work
        self.points: list[Point] = []
        #: What the delivery said at its end; None while it has not, or when it was killed.
        self.answer: str | None = None
        self._number = number
        self._lock = threading.Lock()
        self._news: SimpleQueue[str] = SimpleQueue()
        self._released = threading.Event()
        self._verdict = "go on"
        self._wire = wire
        self._struck = threading.Event()
        wire.meet = lambda name: self._meet(Point(name, is_message=True)) != "cut"
        self._fork = Fork(deliver, situation.name, work, self._database())
        self.pid = self._fork.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _database(self) -> dict[str, Any]:
        through = conninfo_to_dict(self._wire.url)
        options = connection.settings_dict["OPTIONS"] | {
            "application_name": self.work.key,
            "options": NO_FLUSH,
        }
        return {
            "HOST": through["host"],
            "PORT": through["port"],
            "NAME": through["dbname"],
            "OPTIONS": options,
        }

    # -- as the delivery goes ----------------------------------------------------------------

    def _meet(self, point: Point) -> str:
        with self._lock:
            self.points.append(point)
            is_here = len(self.points) == self._number
        if is_here:
            self._news.put("held")
            self._released.wait()
            return self._verdict
        return "go on"

    def _read(self) -> None:
        with suppress(EOFError, OSError):  # it was killed
            while True:
                kind, said = self._fork.line.recv()
                if kind == "struck":
                    self._struck.set()
                    continue
                if kind == "answered":
                    self.answer = said
                self._fork.line.send(self._meet(Point(said if kind == "met" else BEFORE_ACK)))
        self._news.put("ended")

    # -- what the test does ------------------------------------------------------------------

    def is_held(self) -> bool:
        """Wait until it is held at its point; False when it has ended without coming there."""
        return self._news.get(timeout=PATIENCE) == "held"

    @property
    def point(self) -> Point:
        return self.points[self._number - 1]

    def go_on(self, verdict: str = "go on") -> None:
        """Let it go on; ``raise`` in it, or ``cut`` the message that is held."""
        self._verdict = verdict
        self._released.set()

    def finish(self) -> None:
        """Wait for its end, and until the server has noticed it."""
        self._released.set()
        assert self._news.get(timeout=PATIENCE) == "ended"
        self.end()
        wait_until(lambda: not self.backends(), "the connections of the delivery to end")

    def end(self) -> None:
        """Leave nothing of it behind, wherever it is: held, frozen, or dead. May be called twice.

        A frozen process that is left would be waited for when this one ends, and for ever.
        """
        if not self._fork.line.closed:
            self.kill()
            self._reader.join()
            self._fork.end()
            self._wire.meet = None
            self._wire.forget()

    def kill(self) -> None:
        self._fork.kill()
        self.go_on("cut")

    def freeze(self) -> None:
        self._fork.freeze()

    def wake(self) -> None:
        self._fork.wake()
        self.go_on()

    def interrupt(self) -> None:
        """Raise in it, wherever it is: at a moment by itself, in a message by a signal."""
        if not self.point.is_message:
            self.go_on("raise")
            return
        self._fork.signal(signal.SIGUSR1)
        assert self._struck.wait(PATIENCE)
        self.go_on()  # what was sent arrives all the same

    def lose_connection(self) -> None:
        """The message or the reply that is held is lost, and the connection with it."""
        if not self.point.is_message:
            self._wire.cut_all()
        self.go_on("cut")

    def lose_backend(self) -> None:
        """The server ends the connection."""
        assert self.backends()
        terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        observed(f"{terminate} WHERE application_name = %s", self.work.key)
        wait_until(lambda: not self.backends(), "the backend to end")
        self.go_on()

    def backends(self) -> int:
        counted = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        return observed(counted, self.work.key)


def observed(query: str, *parameters: str) -> int:
    """A number that the server tells, on the test's own connection."""
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        [(number,)] = cursor.fetchall()
    return int(number)
