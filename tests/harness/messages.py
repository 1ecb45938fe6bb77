"""The framing of PostgreSQL's protocol (PostgreSQL manual, "Message Formats")."""

import socket
import struct

SSL_REQUEST, GSSENC_REQUEST = 80877103, 80877104


def read_startup(client: socket.socket) -> tuple[int, bytes]:
    """The first packet of a client, or what it asks before: its code and all its bytes."""
    head = _read(client, 8)
    size, code = struct.unpack("!ii", head)
    return code, head + _read(client, size - 8)


def statement(kind: bytes, message: bytes) -> str | None:
    """The SQL text of a Query or Parse message."""
    if kind == b"Q":
        return message[5:-1].decode()
    if kind == b"P":
        return message[5:].split(b"\0")[1].decode()
    return None


def read_message(end: socket.socket) -> tuple[bytes, bytes]:
    """The next message: its type and all its bytes."""
    head = _read(end, 5)
    (size,) = struct.unpack("!i", head[1:])
    return head[:1], head + _read(end, size - 4)


def _read(end: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    received = b""
    while len(received) < size:
        part = end.recv(size - len(received))
        if not part:
            raise ConnectionError("the other side has hung up")
        received += part
    return received
