"""The gateway to webhooks. It tells what was certainly not done from what is unknown.

Nothing that is logged or shown here holds the URL, or a word of the receiver's: a webhook's URL
often is its secret, and an error page repeats it.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection, responses
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError

from notifications.answers import NotSent, Refused, Unavailable, Unknown
from notifications.models import Message, reachable

#: Not now, and certainly not done: too many requests, too early.
_LATER = {429, 425}
#: A client error that may follow, or accompany, a request that is done: a proxy has lost patience
#: with the receiver (408, 499), or the first request with this key is still at work (409; IETF
#: draft idempotency-key-header-07, section 2.7).
_TELLS_NOTHING = {408, 409, 499}
#: "Send it there instead": the one kind of redirect that a done POST never gets (RFC 9110, 15.4).
_ELSEWHERE = {307, 308}


@contextmanager
def ready(message: Message, provider_key: UUID) -> Iterator[Callable[[], None]]:
    """All but sent: the block gets what is left to do.

    Raises:
        Refused: It cannot be built.
        Unavailable: There is no connection.
    """
    try:
        reachable(message.recipient)
    except ValidationError as error:
        raise Refused("The recipient is no URL that can be sent to.") from error
    # The same bytes in every attempt: a receiver that honours the key compares them.
    body = json.dumps({"subject": message.subject, "body": message.body}).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(provider_key)}
    with open_connection(message.recipient) as connection:
        yield lambda: _post(connection, message.recipient, body, headers)


@contextmanager
def open_connection(url: str) -> Iterator[HTTPConnection]:
    """A connection to the host of a URL: open, and closed at the end.

    Raises:
        Unavailable: It cannot be opened.
    """
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme.lower() == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=settings.WEBHOOK_TIMEOUT)
    try:
        try:
            connection.connect()
        except (OSError, ValueError) as error:  # ValueError: a name that is none
            raise Unavailable(f"No connection: {type(error).__name__}") from error
        yield connection
    finally:
        connection.close()


def target(url: str) -> str:
    """What of a URL is sent in the request."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _post(connection: HTTPConnection, url: str, body: bytes, headers: dict[str, str]) -> None:
    """Post, or say why it was certainly not done. Redirects are not followed.

    Raises:
        Refused: The receiver will not have it.
        Unavailable: The receiver says: not now.
        Unknown: Anything else.
    """
    sent = headers | {"User-Agent": user_agent(), "Connection": "close"}
    try:
        connection.request("POST", target(url), body, sent)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        raise Unknown(f"No answer: {type(error).__name__}") from error
    failed = _meaning(status)
    if failed:
        raise failed(f"{status} {responses.get(status, '')}".strip())


def _meaning(status: int) -> type[NotSent | Unknown] | None:
    if 200 <= status < 300:
        return None
    if status in _LATER:
        return Unavailable
    if status in _ELSEWHERE or (400 <= status < 500 and status not in _TELLS_NOTHING):
        return Refused
    # A 500 or a 503 may come from a proxy in front of a receiver that has done it.
    return Unknown


def user_agent() -> str:
    """Which process posts, for the receiver's log."""
    return f"notifications pid-{os.getpid()}"
