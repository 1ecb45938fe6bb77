"""Real HTTP servers: a webhook's receiver that misbehaves on purpose, and a log to be asked."""

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import unquote

from notifications.demo.plan import Fault
from notifications.demo.trouble import Trouble

HANG_UP = 0
"""Instead of a status: the connection ends without an answer."""
TICK = 0.02


class Askable:
    """Answers ``GET .../NAME``: whether a name is found, and since when everything would be.

    Attributes:
        find: True, False, or None for what is still at work.
        complete_since: From when on all is known; None when much may be missing.
        answer_to_questions: Status and body, instead of an answer.
        host: ``127.0.0.1:PORT``, known before it runs.
    """

    def __init__(self, find: Callable[[str], bool | None]) -> None:
        self.find = find
        self.complete_since: datetime | None = datetime.now(UTC)
        self.answer_to_questions: tuple[int, bytes] | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread: threading.Thread | None = None
        self.host = f"127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": TICK}, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop, if it was started."""
        if self._thread:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def post(self, key: str | None, path: str, body: bytes, pid: int) -> int:
        """The status that answers a POST, or ``HANG_UP``."""
        return 405

    def _tell(self, name: str) -> tuple[int, bytes]:
        if self.answer_to_questions:
            return self.answer_to_questions
        found, since = self.find(name), self.complete_since
        complete = since.isoformat() if since and found is not None else None
        told = {"found": bool(found), "complete_since": complete}
        return 200, json.dumps(told).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        askable = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 60  # nobody keeps a thread for ever

            def do_GET(self) -> None:
                name = unquote(self.path.partition("?")[0].rpartition("/")[2])
                self._answer(*askable._tell(name))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                pid = re.search(r"pid-(\d+)", self.headers.get("User-Agent", ""))
                # The draft says a quoted string; most clients send it bare.
                key = self.headers.get("Idempotency-Key", "").strip('"') or None
                status = askable.post(key, self.path, body, int(pid[1]) if pid else 0)
                if status != HANG_UP:
                    self._answer(status)

            def _answer(self, status: int, body: bytes = b"") -> None:
                self.close_connection = True
                try:
                    self.send_response(status)
                    if 300 <= status < 400:
                        self.send_header("Location", "/elsewhere")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass  # its client is dead, or has given up

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@dataclass(frozen=True)
class Post:
    """One effect: what a POST has done."""

    path: str
    key: str | None
    body: bytes


@dataclass
class _Known:
    """A key that was seen: with what, and the answer once there is one."""

    body: bytes
    status: int | None = None


@dataclass(eq=False)
class Receiver(Askable):
    """The receiver of a lane's webhooks.

    Attributes:
        honours_key: Whether it knows a repeat by its key, as Stripe does: the stored answer, 422
            with another body, 409 while the first is at work. Otherwise each POST is an effect.
        status: The answer to every POST that is none of those. Below 300 it is done. From 500 on
            it is done too, and a proxy in front has lost the answer. What lies between is a no.
        journal: The effects, in order.
        seen: How many requests have come, with an effect or not.
    """

    honours_key: bool = True
    trouble: Trouble = field(default_factory=Trouble)
    status: int = 200
    journal: list[Post] = field(default_factory=list)
    seen: int = 0
    _known: dict[str, _Known] = field(default_factory=dict)
    _at_work: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        super().__init__(self._find)

    def _find(self, key: str) -> bool | None:
        with self._lock:
            if any(post.key == key for post in self.journal):
                return True
            return None if key in self._at_work else False

    def post(self, key: str | None, path: str, body: bytes, pid: int) -> int:
        with self._lock:
            self.seen += 1
            if self.honours_key and key:
                known = self._known.get(key)
                if known and known.body != body:
                    return 422
                if known and known.status is None:
                    return 409
                if known and known.status:
                    return known.status
                self._known[key] = _Known(body)
            self._at_work.append(key or "")
        try:
            return self._work(key, path, body, pid)
        finally:
            with self._lock:
                self._at_work.remove(key or "")
                if key in self._known and self._known[key].status is None:
                    del self._known[key]

    def _work(self, key: str | None, path: str, body: bytes, pid: int) -> int:
        fault = self.trouble.meets(pid, path)
        if fault is None:
            self._hold_back(pid)
            return self._take(Post(path, key, body))
        if fault is not Fault.KILL_BEFORE:
            self._take(Post(path, key, body))
        self.trouble.strike(fault, pid, path)
        if fault is Fault.KILL_WORKER:
            self._hold_back(pid)
        return HANG_UP

    def _take(self, post: Post) -> int:
        if not 300 <= self.status < 500:
            with self._lock:
                self.journal.append(post)
                if post.key in self._known:
                    self._known[post.key].status = 200
        return self.status

    def _hold_back(self, pid: int) -> None:
        with self.trouble.waits(pid):
            while self.trouble.is_held(pid):
                time.sleep(TICK)
