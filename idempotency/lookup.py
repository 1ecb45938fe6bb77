"""What a person types becomes the hashes of keys: for the commands and for the admin."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from uuid import UUID

from idempotency.conf import conf
from idempotency.digests import digest
from idempotency.exceptions import IdempotencyError

#: As few hex digits of a hash as are looked for: with fewer, one hash of many is found by chance.
FEWEST_DIGITS = 8
_BEGINNING = re.compile(rf"([0-9a-f]{{{FEWEST_DIGITS},32}})…?", re.IGNORECASE)


def hashes_of(text: str, scopes: Iterable[str]) -> Iterator[UUID]:
    """The hashes that a key has in each of these scopes, under each secret.

    Args:
        text: The key, tried as it stands and as JSON (``7``, ``[1, 7]`` for a tuple), or its hash.
        scopes: What the key may be unique within.
    """
    with suppress(ValueError):
        yield UUID(text)
    values: list[object] = [text]
    with suppress(ValueError, RecursionError):
        values.append(json.loads(text))
    for scope in scopes:
        for value in values:
            yield from _hashes(value, scope)


def hashes_of_message(task_id: str, scopes: Iterable[str]) -> Iterator[UUID]:
    """The hashes that a message has in each of these scopes where the key is ``TASK_ID``.

    That of a message which replaced another one (``Task.replace``) is another.
    """
    for scope in scopes:
        yield from _hashes((task_id, 0), scope)


def _hashes(value: object, scope: str) -> Iterator[UUID]:
    try:
        yield from digest(value, scope=scope, secrets=conf().KEY_SECRETS).hashes
    except (IdempotencyError, TypeError):
        return  # no key can look like this: 1e999, null; and no scope


def hash_range(text: str) -> tuple[UUID, UUID] | None:
    """The first and the last hash that begin with these hex digits; None if they are none.

    A range, so that the index on the hash serves it.
    """
    match = _BEGINNING.fullmatch(text.replace("-", ""))
    if match is None:
        return None
    digits = match.group(1)
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
