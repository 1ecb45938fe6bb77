"""A database that is a millisecond away."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from django.db import connection
from psycopg.conninfo import conninfo_to_dict

from tests.benchmarks.gathered import write_gathered
from tests.harness.proxy import Proxy

DISTANCE = 0.001
"""Seconds for a round trip."""


class Distant(Proxy):
    """What a client says takes its time."""

    def spoken(self, statement: str | None) -> None:
        if statement is not None:
            time.sleep(DISTANCE)


def _serve(line: Connection) -> None:
    with Distant() as proxy:
        line.send(proxy.url)
        line.recv()  # until the other end is closed


@contextmanager
def at_a_distance() -> Iterator[None]:
    """The database is reached by a proxy, in a process of its own: its time is not ours."""
    fork = multiprocessing.get_context("fork")
    connection.close()  # not to be shared with the child
    ours, theirs = fork.Pipe()
    process = fork.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        with reached_by(ours.recv()):
            yield
    finally:
        process.terminate()
        process.join()


@contextmanager
def reached_by(url: str) -> Iterator[None]:
    """Every new connection is made to another address."""
    own, through = dict(connection.settings_dict), conninfo_to_dict(url)
    connection.close()
    connection.settings_dict |= {"HOST": through["host"], "PORT": through["port"]}
    try:
        yield
    finally:
        write_gathered()
        connection.close()
        connection.settings_dict |= {"HOST": own["HOST"], "PORT": own["PORT"]}
