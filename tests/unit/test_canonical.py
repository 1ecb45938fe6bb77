"""What is one key, what are two, and what is none: the encoding of single values."""

import dataclasses
import enum
import io
from collections import OrderedDict, UserDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from idempotency.exceptions import KeyNotHashable
from idempotency.keys import canonical


class Color(enum.Enum):
    RED = "red"


class Text(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Word(str):
    __slots__ = ()

    def __str__(self):
        return "another word"


@dataclasses.dataclass
class Point:
    x: int = 0


class Order:
    _meta = object()
    pk = 7


class BoundTask:
    def apply_async(self): ...


class Payload:
    def model_dump(self, mode):
        return {}


class Lazy:
    """Claims to be what it wraps, as django.utils.functional.SimpleLazyObject does."""

    __class__ = str


NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), [1, 2]),
        (0.0, -0.0),
        (Decimal("1.0"), Decimal("1.00")),
        (Decimal("1E+3"), Decimal(1000)),
        (Decimal("-0.00"), Decimal(0)),
        (NOON, NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))),
        (Color.RED, "red"),
        (Text.RED, "red"),
        (Number.ONE, 1),
        (Word("red"), "red"),
        ({Word("red"): 1}, {"red": 1}),
        ({"a": 1, "b": 2}, OrderedDict(b=2, a=1)),
        ({"a": 1}, UserDict(a=1)),
        ({1: "x"}, {"1": "x"}),
        ({True: 0, None: 1, 1.5: 2}, {"true": 0, "null": 1, "1.5": 2}),
        (timedelta(days=1), timedelta(hours=24)),
    ],
)
def test_values_that_mean_the_same_are_one_key(one, other):
    assert canonical(one) == canonical(other)


def test_values_of_different_types_are_different_keys():
    values = [
        1, 1.0, True, "1", Decimal(1), b"1", None, "", "None", "null", b"", 0, False, 0.0,
        [], {}, [[]], [1], ["1"], [1, 1], {"1": 1}, [["1", 1]],
        2**53, 2**53 + 1, 2**70, -(2**70), 10**5000, float(2**53),
        "é", "e\u0301", "a\x00", "a", Decimal("1E+999999"), Decimal("1E-999999"),
        NOON, NOON.replace(tzinfo=None), NOON.date(), NOON.time(), NOON.isoformat(),
        NOON.timetz(), timedelta(0), timedelta(microseconds=-1),
        UUID(int=1), UUID(int=1).hex, UUID(int=1).bytes, date.min, time.min, datetime.min,
        datetime.min.replace(tzinfo=timezone(timedelta(hours=23))),
    ]  # fmt: skip
    assert len({canonical(value) for value in values}) == len(values)


def test_neighbours_never_run_together():
    assert canonical(["ab", "c"]) != canonical(["a", "bc"])
    assert canonical(["a", ["b"]]) != canonical([["a"], "b"])
    assert canonical(["as1:b"]) != canonical(["a", "b"])


def test_digits_beyond_the_decimal_context_count():
    assert canonical(Decimal("1." + "0" * 40 + "1")) != canonical(Decimal(1))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, "argument 'tags' of type set cannot be part of a key or fingerprint; "
                 "convert it to a sorted list."),
        (frozenset(), "of type frozenset .* sorted list"),
        ({}.keys(), "of type dict_keys .* sorted list"),
        (float("nan"), "argument 'tags' is NaN or infinite; a key needs finite numbers."),
        (float("-inf"), "is NaN or infinite"),
        (Decimal("sNaN"), "is NaN or infinite"),
        (Decimal("Infinity"), "is NaN or infinite"),
        (Order(), "of type Order .* use order.pk."),
        (Point(), "of type Point .* use dataclasses.asdict"),
        (Payload(), r"of type Payload .* use model_dump\(mode='json'\)."),
        (io.BytesIO(b"x"), "of type BytesIO .* use the file's name."),
        (bytearray(b"x"), "of type bytearray .* convert it to bytes."),
        (memoryview(b"x"), "of type memoryview .* convert it to bytes."),
        (iter([1]), "of type list_iterator .* convert it to a list."),
        (BoundTask(), "of type BoundTask .* name the parameter of the task itself 'self'."),
        (object(), "of type object .* use text, numbers, dates, lists and mappings."),
        (Point, "of type type "),
        (1j, "of type complex "),
        ("abc\ud800", r"is not valid Unicode \(lone surrogate at position 3\)."),
        ({"\ud800": 1}, r'at \["\\ud800"\] is not valid Unicode'),
        ({1: "a", "1": "b"}, r'at \["1"\] is there twice: two keys of the mapping are the '
                             "same in JSON."),
        ({(1, 2): 3}, "has a key of type tuple that JSON cannot write; use text."),
        ({Color.RED: 3}, "has a key of type Color that"),
        ({float("nan"): 3}, "has a key of type float that"),
        ({10**5000: 3}, "has a key of type int that"),
        ({"a": [0, {"b c": {4}}]}, r'argument \'tags\' at .a\[1\]\["b c"\] of type set'),
    ],
)  # fmt: skip
def test_what_has_no_lasting_form_is_refused_by_name_type_and_remedy(value, message):
    with pytest.raises(KeyNotHashable, match=message):
        canonical(value, name="argument 'tags'")


def test_a_lazy_object_is_not_what_it_claims_to_be():
    with pytest.raises(KeyNotHashable, match="of type Lazy cannot be part of a key"):
        canonical(Lazy())


def test_a_value_inside_itself_is_refused():
    inside: list[object] = []
    inside.append(inside)
    with pytest.raises(KeyNotHashable, match="nested deeper than 100 levels, or contains it"):
        canonical(inside)
    mapping: dict[str, object] = {}
    mapping["again"] = [mapping]
    with pytest.raises(KeyNotHashable, match=r"key at .again\[0\].* contains itself"):
        canonical(mapping)


def test_a_hundred_levels_are_enough():
    value: list[object] = []
    for _ in range(99):
        value = [value]
    canonical(value)
    with pytest.raises(KeyNotHashable, match="100 levels"):
        canonical([value])


def test_a_refusal_tells_no_value():
    for value in (["secret", {"secret"}], "secret\ud800", Decimal("NaN9876")):
        with pytest.raises(KeyNotHashable) as refused:
            canonical(value)
        assert "secret" not in str(refused.value)
        assert "9876" not in str(refused.value)
        assert refused.value.__context__ is None
