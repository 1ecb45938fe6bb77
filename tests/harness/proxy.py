"""A TCP proxy between a client and PostgreSQL that loses messages and replies on demand.

It reads the message framing of the protocol (PostgreSQL manual, "Message Formats"), so that a
fault strikes at one statement: at the query itself, simple (``Q``) or extended (``P``).
"""

import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from django.db import connection
from psycopg.conninfo import make_conninfo

from tests.harness.messages import (
    GSSENC_REQUEST,
    SSL_REQUEST,
    read_message,
    read_startup,
    statement,
)
from tests.harness.waiting import wait_until


@dataclass
class Stop:
    """One fault: where it strikes, how often, and whether it cuts the line or only holds it."""

    pattern: re.Pattern[str]
    after: bool
    holds: bool
    times: int
    hits: int = 0
    _released: threading.Event = field(default_factory=threading.Event)
    _cut: bool = False

    def wait_reached(self, number: int = 1, *, seconds: float = 20) -> None:
        """Wait until the fault has struck so often."""
        what = f"{number} times {self.pattern.pattern} on the way to PostgreSQL"
        wait_until(lambda: self.hits >= number, what, seconds=seconds)

    def release(self) -> None:
        """Let the held message or reply go on."""
        self._released.set()

    def cut(self) -> None:
        """Lose the held message or reply and end its connection."""
        self._cut = True
        self._released.set()

    def strike(self) -> bool:
        """Called by the line when the place is reached; whether the line lives on."""
        self.hits += 1
        if self.holds:
            self._released.wait()
        return self.holds and not self._cut


class Proxy:
    """``with Proxy() as proxy:`` a client of ``proxy.url`` reaches the tests' database by it."""

    def __init__(self) -> None:
        settings = connection.settings_dict
        self.target = (settings["HOST"], int(settings["PORT"]))
        self._settings = settings
        self._stops: list[Stop] = []
        self._lines: list[_Line] = []
        self._lock = threading.Lock()
        self._down = False
        self.refused = 0
        """How many clients were turned away."""
        self.statements: list[str] = []
        """The text of every query that was sent, in order, of all connections."""
        self.round_trips = 0
        """How often a client spoke after the server had: what a distant database costs."""

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for stop in self._stops:
            stop.cut()
        for line in self._lines:
            line.end()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()
        return host, port

    @property
    def url(self) -> str:
        """For ``DATABASE_URL``: the database of this test, reached through the proxy."""
        host, port = self.address
        return make_conninfo(
            host=host,
            port=port,
            dbname=self._settings["NAME"],
            user=self._settings["USER"],
            password=self._settings["PASSWORD"],
        )

    def cut(self, *, before: str = "", after: str = "", times: int = 1) -> Stop:
        """End the connection instead of passing on a query with this text, or its reply."""
        return self._add(before, after, holds=False, times=times)

    def hold(self, *, before: str = "", after: str = "", times: int = 1) -> Stop:
        """Keep a query with this text, or its reply, until the test releases or cuts it."""
        return self._add(before, after, holds=True, times=times)

    def go_down(self) -> None:
        """Be a database that is gone: end all connections and refuse new ones."""
        self._down = True
        for line in list(self._lines):
            line.hang_up()

    def come_up(self) -> None:
        """Take connections again."""
        self._down = False

    def _add(self, before: str, after: str, *, holds: bool, times: int) -> Stop:
        # Whole words: COMMIT is not meant by "SET LOCAL synchronous_commit = on".
        pattern = re.compile(rf"\b{before or after}\b", re.IGNORECASE)
        stop = Stop(pattern, after=bool(after), holds=holds, times=times)
        self._stops.append(stop)
        return stop

    def spoken(self, statement: str | None) -> Stop | None:
        """Note a query; the stop that waits for it."""
        if statement is None:
            return None
        with self._lock:
            self.statements.append(statement)
            for stop in self._stops:
                if stop.times and stop.pattern.search(statement):
                    stop.times -= 1
                    return stop
        return None

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._down:
                self.refused += 1
                client.close()
            else:
                self._lines.append(_Line(self, client))


class _Line:
    """One client's connection: a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server: socket.socket | None = None
        self._reply_stop: Stop | None = None
        self._server_spoke_last = True
        self._threads = [threading.Thread(target=self._run, daemon=True)]
        self._threads[0].start()

    def end(self) -> None:
        self.hang_up()
        for thread in self._threads:
            thread.join()
        self._client.close()
        if self._server:
            self._server.close()

    def hang_up(self) -> None:
        for end in (self._client, self._server):
            if end:
                with suppress(OSError):  # the other side was faster
                    end.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            self._server = socket.create_connection(self._proxy.target)
            self._server.sendall(self._startup())
            back = threading.Thread(target=self._pass_replies, daemon=True)
            self._threads.append(back)
            back.start()
            self._pass_queries()
        except OSError:
            pass  # one of the two ends is gone, so the other goes too
        finally:
            self.hang_up()

    def _startup(self) -> bytes:
        """The startup packet; a client that first asks for encryption is told no."""
        while True:
            code, packet = read_startup(self._client)
            if code not in (SSL_REQUEST, GSSENC_REQUEST):
                return packet
            self._client.sendall(b"N")

    def _pass_queries(self) -> None:
        while True:
            kind, message = read_message(self._client)
            if self._server_spoke_last:
                self._server_spoke_last = False
                self._proxy.round_trips += 1
            stop = self._proxy.spoken(statement(kind, message))
            if stop and not stop.after and not stop.strike():
                return
            if stop and stop.after:
                self._reply_stop = stop
            self._server.sendall(message)

    def _pass_replies(self) -> None:
        kept = b""
        try:
            while True:
                kind, message = read_message(self._server)
                self._server_spoke_last = True
                kept += message
                # The whole reply, up to ReadyForQuery: the server has certainly done the work.
                if self._reply_stop and kind != b"Z":
                    continue
                if self._reply_stop and not self._reply_stop.strike():
                    return
                self._reply_stop = None
                self._client.sendall(kept)
                kept = b""
        except OSError:
            pass  # one of the two ends is gone, so the other goes too
        finally:
            self.hang_up()
