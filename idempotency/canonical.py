"""The one encoding of a value that keys and fingerprints are hashed from.

Every value becomes ``tag length ":" payload``, so that values of different types never meet and
neighbours never run together. What the broker's JSON makes equal is equal here too: a tuple and a
list, the key ``1`` and the key ``"1"`` of a mapping. A change of this encoding makes every stored
key unknown: raise `keys.VERSION` with it.
"""

import dataclasses
import enum
import io
import json
import math
import struct
import uuid
from collections.abc import Callable, Iterable, Mapping, Set
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any, Final, NoReturn

from idempotency.exceptions import KeyNotHashable

MAX_DEPTH: Final = 100
"""Levels of lists and mappings inside each other; what contains itself has more."""

Where = tuple[str | int, ...]
"""What a value is called, and the steps that lead to its part: ``("key", "items", 3)``."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def canonical(value: object, *, name: str = "key", at: tuple[str, ...] = ()) -> bytes:
    """Encode ``value`` so that equal bytes mean an equal key.

    ``name`` and the steps ``at`` say in an error what was refused: ``argument 'event' at .id``.
    The content of a value is never part of an error.

    Raises:
        KeyNotHashable: the value, or something inside it, has no lasting JSON-like form.
    """
    return _encode(value, (name, *at))


def canonical_list(items: Iterable[bytes]) -> bytes:
    """The encoding of a list from those of its items."""
    return _framed(b"l", b"".join(items))


def canonical_mapping(entries: Mapping[str, bytes], *, name: str = "key") -> bytes:
    """The encoding of a mapping from its names and the encodings of its values."""
    return _framed(
        b"m", b"".join(_text(key, (name, key)) + entries[key] for key in sorted(entries))
    )


def json_name(key: Any) -> str | None:
    """The text that JSON writes for the key of a mapping; None if it cannot write one."""
    kind = type(key)
    if issubclass(kind, str):
        return str.__str__(key)
    if issubclass(kind, int | float | NoneType):
        try:
            return json.dumps(key)
        except ValueError:  # more digits than sys.get_int_max_str_digits()
            return None
    return None


def place(where: Where) -> str:
    """Say where a value is, in text that a database takes: ``argument 'event' at .items[3]``."""
    name, *steps = where
    path = "".join(_step(step) for step in steps)
    if len(path) > 200:
        path = f"{path[:200]}…"
    return f"{name} at {path}" if path else str(name)


def remedy(value: object) -> str:
    """What to do about a value of a type that is refused."""
    kind = type(value)
    for is_it, advice in _REMEDIES:
        if is_it(kind):
            return advice.format(name=kind.__name__.lower())
    return "use text, numbers, dates, lists and mappings"


# Asked of the type: asking the value could run its code, or a query.
_REMEDIES: tuple[tuple[Callable[[type], bool], str], ...] = (
    (lambda kind: issubclass(kind, Set), "convert it to a sorted list"),
    (lambda kind: hasattr(kind, "_meta") and hasattr(kind, "pk"), "use {name}.pk"),
    (lambda kind: hasattr(kind, "model_dump"), "use model_dump(mode='json')"),
    (dataclasses.is_dataclass, "use dataclasses.asdict()"),
    (lambda kind: hasattr(kind, "build_absolute_uri"), "pass the values that you need of it"),
    (lambda kind: issubclass(kind, io.IOBase) or hasattr(kind, "read"), "use the file's name"),
    (lambda kind: issubclass(kind, bytearray | memoryview), "convert it to bytes"),
    (lambda kind: issubclass(kind, timedelta), "use total_seconds()"),
    (lambda kind: issubclass(kind, enum.Enum), "use its .value"),
    (lambda kind: issubclass(kind, Mapping), "convert it to a dict"),
    (lambda kind: hasattr(kind, "apply_async"), "name the parameter of the task itself 'self'"),
    (lambda kind: hasattr(kind, "__next__"), "convert it to a list"),
)


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if step.isascii() and step.isidentifier():
        return f".{step}"
    return f"[{json.dumps(step)}]"


def _framed(tag: bytes, payload: bytes) -> bytes:
    return b"%b%d:%b" % (tag, len(payload), payload)


def _refuse(where: Where, fact: str) -> NoReturn:
    raise KeyNotHashable(f"{place(where)} {fact}. Nothing was run.")


def _encode(value: object, where: Where) -> bytes:
    kind = type(value)  # not isinstance(): a lazy object claims to be what it wraps
    for known, encode in _ENCODERS:
        if issubclass(kind, known):
            return encode(value, where)
    fact = f"of type {kind.__qualname__} cannot be part of a key or fingerprint"
    _refuse(where, f"{fact}; {remedy(value)}")


# The unbound methods below read the content of a subclass, as JSON does, whatever it overrides.


def _text(value: str, where: Where) -> bytes:
    try:
        return _framed(b"s", str.encode(value))
    except UnicodeEncodeError as error:
        position = error.start
    # Outside the handler: the error of the codec holds the text.
    _refuse(where, f"is not valid Unicode (lone surrogate at position {position})")


def _float(value: float, where: Where) -> bytes:
    if not math.isfinite(value):
        _refuse(where, "is NaN or infinite; a key needs finite numbers")
    return _framed(b"f", struct.pack(">d", value + 0.0))  # -0.0 + 0.0 is 0.0


def _decimal(value: Decimal, where: Where) -> bytes:
    if not value.is_finite():
        _refuse(where, "is NaN or infinite; a key needs finite numbers")
    # Not normalize(): it rounds to the precision of the current context.
    sign, digits, exponent = value.as_tuple()
    number = "".join(map(str, digits)).rstrip("0")
    if not number:
        return _framed(b"n", b"0")
    power = int(exponent) + len(digits) - len(number)
    return _framed(b"n", b"%b%be%d" % (b"-" if sign else b"", number.encode(), power))


def _datetime(value: datetime, where: Where) -> bytes:
    if value.utcoffset() is None:
        return _framed(b"w", datetime.isoformat(value).encode())
    return _framed(b"a", b"%d" % (datetime.__sub__(value, _EPOCH) // _MICROSECOND))


def _sequence(value: list[object] | tuple[object, ...], where: Where) -> bytes:
    _check_depth(where)
    return canonical_list(_encode(item, (*where, index)) for index, item in enumerate(value))


def _mapping(value: Mapping[object, object], where: Where) -> bytes:
    _check_depth(where)
    entries: dict[str, bytes] = {}
    for key, item in value.items():
        name = json_name(key)
        if name is None or (isinstance(key, float) and not math.isfinite(key)):
            _refuse(
                where,
                f"has a key of type {type(key).__qualname__} that JSON cannot write; use text",
            )
        if name in entries:
            _refuse((*where, name), "is there twice: two keys of the mapping are the same in JSON")
        entries[name] = _encode(item, (*where, name))
    return canonical_mapping(entries, name=place(where))


def _check_depth(where: Where) -> None:
    if len(where) > MAX_DEPTH:
        _refuse(where, f"is nested deeper than {MAX_DEPTH} levels, or contains itself")


# The first match counts: bool before int, datetime before date, and enums after the types that
# they may also be.
_ENCODERS: tuple[tuple[type, Callable[[Any, Where], bytes]], ...] = (
    (str, _text),
    (bool, lambda value, where: _framed(b"b", b"1" if value else b"0")),
    (int, lambda value, where: _framed(b"i", b"%x" % value)),  # decimal digits have a limit
    (NoneType, lambda value, where: _framed(b"z", b"")),
    (list, _sequence),
    (tuple, _sequence),
    (dict, _mapping),
    (float, _float),
    (Decimal, _decimal),
    (uuid.UUID, lambda value, where: _framed(b"u", value.bytes)),
    (datetime, _datetime),
    (date, lambda value, where: _framed(b"d", date.isoformat(value).encode())),
    (time, lambda value, where: _framed(b"t", time.isoformat(value).encode())),
    (
        timedelta,
        lambda value, where: _framed(b"p", b"%d" % timedelta.__floordiv__(value, _MICROSECOND)),
    ),
    (bytes, lambda value, where: _framed(b"x", bytes(value))),
    (enum.Enum, lambda value, where: _encode(value.value, where)),
    (Mapping, _mapping),
)
