"""A database that is a millisecond away."""

from __future__ import annotations

import asyncio
import multiprocessing
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from django.db import connection

from tests.benchmarks.gathered import write_gathered

DISTANCE = 0.001
"""Seconds for a round trip."""


async def _pass(source: StreamReader, sink: StreamWriter, seconds: float) -> None:
    while sent := await source.read(2**16):
        if seconds:
            await asyncio.sleep(seconds)
        sink.write(sent)
    sink.close()


async def _serve(line: Connection, host: str, port: int) -> None:
    async def meet(reader: StreamReader, writer: StreamWriter) -> None:
        answers, questions = await asyncio.open_connection(host, port)
        await asyncio.gather(_pass(reader, questions, DISTANCE), _pass(answers, writer, 0))

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    line.send(server.sockets[0].getsockname())
    await server.serve_forever()


@contextmanager
def at_a_distance() -> Iterator[None]:
    """The database is reached by a process in between: its time is not ours. Nothing waits in it
    but what goes to the server: asyncio's connections have TCP_NODELAY, without which the second
    of two small pieces waits 40 ms for the first to be acknowledged (RFC 896; tcp(7))."""
    fork = multiprocessing.get_context("fork")
    host, port = connection.settings_dict["HOST"], int(connection.settings_dict["PORT"])
    connection.close()  # not to be shared with the child
    ours, theirs = fork.Pipe()
    process = fork.Process(
        target=lambda: asyncio.run(_serve(theirs, host, port)), daemon=True, name="distance"
    )
    process.start()
    try:
        with reached_by(*ours.recv()):
            yield
    finally:
        process.terminate()
        process.join()


@contextmanager
def reached_by(host: str, port: int) -> Iterator[None]:
    """Every new connection is made to another address."""
    own = dict(connection.settings_dict)
    connection.close()
    connection.settings_dict |= {"HOST": host, "PORT": port}
    try:
        yield
    finally:
        write_gathered()
        connection.close()
        connection.settings_dict |= {"HOST": own["HOST"], "PORT": own["PORT"]}
