"""A result becomes text, and comes back as it comes back through Celery's result backend.

What is stored is what kombu's JSON can carry and nothing else, so that the caller of a replay gets
what the caller of the first run got: a list for a tuple, text for the keys of a mapping, and
`Decimal`, `UUID`, dates, times and bytes as themselves.
"""

import base64
import json
import uuid
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from types import NoneType
from typing import Any, Final

from idempotency.canonical import MAX_DEPTH, Where, json_name, place, remedy
from idempotency.exceptions import ResultNotStorable, ResultUnreadable

_TAGGED: Final = {"__type__", "__value__"}
# What the readers raise for a text that they did not write.
_DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)


def encode(value: object, *, limit: int, name: str = "the result") -> str:
    """Encode the result of a job as JSON text in ASCII.

    Args:
        value: What the job returned.
        limit: The longest text to allow, in bytes.
        name: What errors call it.

    Raises:
        ResultNotStorable: something in it is not JSON-like, or the text is too long.
    """
    tree = _plain(value, (name,))
    try:
        text = json.dumps(tree)
    except ValueError as error:  # an integer longer than sys.get_int_max_str_digits()
        raise ResultNotStorable(f"{name} cannot be stored: {error}.") from None
    if len(text) > limit:
        raise ResultNotStorable(
            f"{name} takes {len(text):,} bytes, and MAX_RESULT_BYTES allows {limit:,}; "
            "return less (an id, a path), raise the setting, or set store_result=False."
        )
    return text


def decode(text: str) -> object:
    """Read what `encode` wrote.

    Raises:
        ResultUnreadable: the text is damaged, or a later version wrote it.
    """
    try:
        return _decoder.decode(text)
    except _DAMAGE as error:
        raise ResultUnreadable(
            f"the stored result cannot be read ({type(error).__name__}): it was damaged, or "
            "written by a later version. The body did not run again. Deploy that version, or allow "
            "the key again."
        ) from error


def _plain(value: object, where: Where) -> object:
    """The same value in what `json` knows."""
    kind = type(value)
    if issubclass(kind, str | int | float | NoneType):
        return value
    if len(where) > MAX_DEPTH and issubclass(kind, dict | list | tuple):
        raise ResultNotStorable(
            f"{place(where)} is nested deeper than {MAX_DEPTH} levels, or contains itself; "
            "return something flat."
        )
    if isinstance(value, dict):
        return _plain_dict(value, where)
    if isinstance(value, list | tuple):
        return [_plain(item, (*where, index)) for index, item in enumerate(value)]
    dump = getattr(value, "model_dump", None)
    if dump is not None:  # a pydantic model, as Celery's pydantic=True sends it
        return _plain(_dumped(dump, kind, where), where)
    for known, (write, _) in _FORMS.items():
        if issubclass(kind, known):
            return {"__type__": known.__name__, "__value__": write(value)}
    raise ResultNotStorable(
        f"{place(where)} is of type {kind.__qualname__} and cannot be stored; {remedy(value)}."
    )


def _dumped(dump: Callable[..., object], kind: type, where: Where) -> object:
    try:
        return dump(mode="json")
    except (ValueError, TypeError) as error:  # its text may hold values
        raise ResultNotStorable(
            f"{place(where)} is of type {kind.__qualname__} and cannot be stored: its "
            f"model_dump(mode='json') raised {type(error).__qualname__}."
        ) from None


def _plain_dict(value: dict[object, object], where: Where) -> object:
    entries: dict[str, object] = {}
    for key, item in value.items():
        name = json_name(key)
        if name is None:
            raise ResultNotStorable(
                f"{place(where)} has a key of type {type(key).__qualname__}, which JSON cannot "
                "write; use text."
            )
        entries[name] = _plain(item, (*where, name))
    if entries.keys() == _TAGGED:  # looks like one of ours: as pairs it does not
        return {"__type__": "dict", "__value__": [list(pair) for pair in entries.items()]}
    return entries


def _restored(entries: dict[str, Any]) -> object:
    if entries.keys() != _TAGGED:
        return entries
    return _READERS[entries["__type__"]](entries["__value__"])


_decoder = json.JSONDecoder(object_hook=_restored)

# How kombu writes and reads each type (kombu/utils/json.py), bytes apart: kombu writes UTF-8 as
# text. The first match counts: a datetime is a date as well.
_FORMS: dict[type, tuple[Callable[[Any], str], Callable[[str], object]]] = {
    datetime: (datetime.isoformat, datetime.fromisoformat),
    date: (date.isoformat, date.fromisoformat),
    time: (time.isoformat, time.fromisoformat),
    Decimal: (str, Decimal),
    uuid.UUID: (str, uuid.UUID),
    bytes: (
        lambda value: base64.b64encode(value).decode(),
        partial(base64.b64decode, validate=True),
    ),
}
_READERS: dict[str, Callable[[Any], object]] = {
    "dict": dict,
    **{known.__name__: read for known, (_, read) in _FORMS.items()},
}
