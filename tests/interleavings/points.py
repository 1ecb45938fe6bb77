"""Where actors stop: psycopg hands a message to libpq, or has its reply."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import _connection_base, _cursor_base, client_cursor

from idempotency import calls, leased, transactional
from tests.interleavings.actors import here, point


class _Clock:
    """`time` for the runners: an actor's clock moves only while it sleeps, and then by a second, so
    that none of them sleeps for long or looks often."""

    def monotonic(self) -> float:
        actor = here()
        return actor.clock if actor else time.monotonic()

    def sleep(self, seconds: float) -> None:
        if actor := here():
            actor.clock += max(seconds, 1.0)
        else:
            time.sleep(seconds)


def _text(query: Any) -> str:
    text = query if isinstance(query, bytes) else query.query
    return " ".join(text.decode(errors="replace").split())


def _stop_then_send(send: Callable[..., None]) -> Callable[..., None]:
    def stop_then_send(self: Any, query: Any, **kwargs: Any) -> None:
        point(_text(query), self._conn)
        send(self, query, **kwargs)

    return stop_then_send


def _stop_then_execute(execute: Callable[..., Any]) -> Callable[..., Any]:
    def stop_then_execute(self: Any, command: bytes, *args: Any, **kwargs: Any) -> Any:
        point(_text(command), self)
        return execute(self, command, *args, **kwargs)

    return stop_then_execute


def _wait_then_hear(wait: Callable[..., Any]) -> Callable[..., Any]:
    def wait_then_hear(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return wait(self, *args, **kwargs)
        finally:
            if actor := here():
                actor.heard(self)

    return wait_then_hear


def _connect_alive(connect: Callable[..., Any]) -> Callable[..., Any]:
    def connect_alive(*args: Any, **kwargs: Any) -> Any:
        if actor := here():
            actor.refuse_if_dead()
        return connect(*args, **kwargs)

    return connect_alive


#: Where psycopg hands a message to libpq, and where it has the reply.
_PLACES = (
    (_connection_base.BaseConnection, "_exec_command", _stop_then_execute),  # BEGIN, COMMIT
    (_cursor_base.BaseCursor, "_execute_send", _stop_then_send),
    (client_cursor.ClientCursorMixin, "_execute_send", _stop_then_send),
    (psycopg.Connection, "wait", _wait_then_hear),
    (psycopg, "connect", _connect_alive),
)


@contextmanager
def points_before_messages() -> Iterator[None]:
    """While it lasts, actors stop before each message, and their clocks stand still."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, around in _PLACES:
            patch.setattr(owner, name, around(getattr(owner, name)))
        for module in (calls, leased, transactional):
            patch.setattr(module, "time", _Clock())
        yield
