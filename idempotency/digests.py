"""A value becomes a key: its hash, its fingerprint, and a text for people."""

import enum
import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from idempotency.canonical import canonical
from idempotency.exceptions import KeyMissing

VERSION: Final = 1
"""Of encoding and hashing together. A new one makes every stored key unknown."""

_READABLE_LENGTH = 200
_NOTHING = {canonical(value) for value in (None, "", b"")}
_EMPTY = {*_NOTHING, canonical([]), canonical({})}


class Digest(NamedTuple):
    """A key and its fingerprint as hashed under one secret."""

    key_hash: uuid.UUID
    fingerprint: uuid.UUID | None


@dataclass(frozen=True, slots=True)
class Key:
    """One intended effect.

    Attributes:
        scope: What the key is unique within.
        digests: One per secret: the first signs, all are locked and looked up.
        value: As it was given.
    """

    scope: str
    digests: tuple[Digest, ...]
    value: object = field(default=None, compare=False, repr=False)

    @property
    def readable(self) -> str:
        """The key as JSON-like text for people, at most 200 characters; "…" marks a cut."""
        return _readable(self.value)

    @property
    def hashes(self) -> tuple[uuid.UUID, ...]:
        """The hash of the key under each secret."""
        return tuple([digest.key_hash for digest in self.digests])

    @property
    def lock_numbers(self) -> tuple[int, ...]:
        """The first 8 bytes of each hash as a signed number: the form of an advisory lock."""
        return tuple(int.from_bytes(half.bytes[:8], signed=True) for half in self.hashes)

    def fingerprint_for(self, key_hash: uuid.UUID) -> uuid.UUID | None:
        """The fingerprint under the secret that made ``key_hash``.

        Raises:
            KeyError: it is none of `hashes`.
        """
        return dict(self.digests)[key_hash]


class Part(NamedTuple):
    """Something that goes into a key or a fingerprint.

    Attributes:
        name: What errors call it.
        value: As it was given.
        encoded: Its canonical encoding.
        parts: Those of a tuple: in a key, none of them may be None or an empty text.
    """

    name: str
    value: object
    encoded: bytes
    parts: "tuple[Part, ...]" = ()


def part_of(value: object, name: str) -> Part:
    """Encode a value that was given as a whole.

    Raises:
        KeyNotHashable: it has no canonical form.
    """
    encoded = canonical(value, name=name)
    if not isinstance(value, tuple):
        return Part(name, value, encoded)
    parts = (
        Part(f"{name}, part {number},", item, canonical(item))
        for number, item in enumerate(value, start=1)
    )
    return Part(name, value, encoded, tuple(parts))


def key_of(scope: str, key: Part, compared: Part | None, secrets: Sequence[str | None]) -> Key:
    """Hash a key, and with it what is ``compared`` (None: nothing is).

    Raises:
        KeyMissing: the key, or a part of it, is None or empty.
    """
    if key.encoded in _EMPTY:
        raise _missing(key)
    for part in key.parts:
        if part.encoded in _NOTHING:
            raise _missing(part)
    named = _prefix("key", scope) + key.encoded
    # The key is in it too: a collision of 128-bit hashes then says KeyReused instead of replaying
    # the result of another key.
    printed = None
    if compared is not None:
        printed = _prefix("fingerprint", scope) + key.encoded + compared.encoded
    digests = (
        Digest(_hash(named, secret), None if printed is None else _hash(printed, secret))
        for secret in (secrets or (None,))
    )
    return Key(scope, tuple(digests), key.value)


def digest(
    value: object, *, scope: str, fingerprint: object = None, secrets: Sequence[str | None] = ()
) -> Key:
    """Make the key of ``value`` in ``scope``.

    With a ``fingerprint`` (any JSON-like value) the key cannot be used again with another one.

    Raises:
        KeyMissing: the value is None or empty, or a tuple with a part that is None or empty text.
        KeyNotHashable: the value or the fingerprint has no canonical form.
        TypeError: the scope is no name.
    """
    check_scope(scope)
    compared = None if fingerprint is None else part_of(fingerprint, f"{scope}: fingerprint")
    return key_of(scope, part_of(value, f"{scope}: key"), compared, secrets)


def check_scope(scope: object) -> None:
    """Refuse, with a TypeError, a scope that is no name."""
    if not isinstance(scope, str) or not scope.strip() or not scope.isprintable():
        raise TypeError(
            "scope must be a printable text that is not empty, such as 'billing.charge'; got "
            f"{scope!r}."
        )


@lru_cache
def _prefix(what: str, scope: str) -> bytes:
    return canonical([what, VERSION, scope])


def _missing(part: Part) -> KeyMissing:
    what = "None" if part.value is None else f"empty ({type(part.value).__qualname__})"
    return KeyMissing(
        f"{part.name} is {what}, so nothing tells this effect from the next, and nothing was run. "
        "Pass a value that names the effect."
    )


def _hash(message: bytes, secret: str | None) -> uuid.UUID:
    if secret is None:
        return uuid.UUID(bytes=hashlib.sha256(message).digest()[:16])
    return uuid.UUID(bytes=hmac.digest(secret.encode(), message, "sha256")[:16])


def _readable(value: object) -> str:
    """The value for people. JSON escapes control characters, so there is no NUL in it."""
    try:
        text = json.dumps(value, default=_plain, ensure_ascii=False)
    except ValueError:  # an integer longer than sys.get_int_max_str_digits()
        return "…"
    return text if len(text) <= _READABLE_LENGTH else f"{text[: _READABLE_LENGTH - 1]}…"


def _plain(value: object) -> object:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    return value.hex() if isinstance(value, bytes) else str(value)
