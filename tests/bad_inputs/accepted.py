"""What is no error, and what it means."""

from datetime import UTC, datetime, timedelta, timezone

from idempotency import ALL_ARGUMENTS, execute
from tests.bad_inputs.at_import import plain
from tests.bad_inputs.case import SCOPE, Accepted, declared
from tests.execution.bodies import effect

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
TOKYO = timezone(timedelta(hours=9))


def with_currency(order_id, currency="EUR"):
    """The same function after a deploy."""
    effect()


def in_dollars(order_id, currency="USD"):
    """And after another."""
    effect()


def open_ended(*args, **kwargs):
    effect()


def keys(*values):
    """Calls that have these keys."""
    return tuple(lambda key=value: execute(effect, key=key, scope=SCOPE) for value in values)


ACCEPTED = (
    Accepted(
        given='`1`, `1.0`, `True`, `"1"`',
        calls=keys(1, 1.0, True, "1"),
        effects=4,
        means="four keys",
    ),
    Accepted(
        given='`0`, `0.0`, `False`, `"0"`',
        calls=keys(0, 0.0, False, "0"),
        effects=4,
        means="four keys: zero is a value",
    ),
    Accepted(
        given="integers beyond 2**53",
        calls=keys(2**53, 2**53 + 1, 2**64),
        effects=3,
        means="a key each: no digit is lost",
    ),
    Accepted(
        given="`é` as one character, and as two",
        calls=keys("\u00e9", "e\u0301"),
        effects=2,
        means="two keys: normalise what people type",
    ),
    Accepted(
        given="a datetime with a time zone, and one without",
        calls=keys(NOON, NOON.replace(tzinfo=None)),
        effects=2,
        means="two keys: choose one form",
    ),
    Accepted(
        given="one instant in two time zones",
        calls=keys(NOON, NOON.astimezone(TOKYO)),
        effects=1,
        means="one key",
    ),
    Accepted(
        given="a dict in another order, a tuple for a list, a number for its text as a dict's key",
        calls=keys({"a": (1, 2), 3: 4}, {"3": 4, "a": [1, 2]}),
        effects=1,
        means="one key: the broker makes no difference",
    ),
    Accepted(
        given="two texts of a megabyte that differ in the last character",
        calls=keys("x" * 10**6 + "a", "x" * 10**6 + "b"),
        effects=2,
        means="two keys",
    ),
    Accepted(
        given="a text, and the same with a NUL behind it",
        calls=keys("a", "a\0"),
        effects=2,
        means="two keys",
    ),
    Accepted(
        given="a call from before a parameter with a default was added, and one from after",
        calls=(
            lambda: declared(plain, key=ALL_ARGUMENTS)(7),
            lambda: declared(with_currency, key=ALL_ARGUMENTS)(7),
            lambda: declared(with_currency, key=ALL_ARGUMENTS)(7, "EUR"),
            lambda: declared(in_dollars, key=ALL_ARGUMENTS)(7),
        ),
        effects=1,
        means="one key, also when the default has changed since",
    ),
    Accepted(
        given="`f(*args, **kwargs)` under `ALL_ARGUMENTS`, by position and by name",
        calls=(
            lambda: declared(open_ended, key=ALL_ARGUMENTS)(7),
            lambda: declared(open_ended, key=ALL_ARGUMENTS)(order_id=7),
        ),
        effects=2,
        means="two keys: give the function parameters with names",
    ),
)
