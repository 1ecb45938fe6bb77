"""A replay gives what the first run's caller got through Celery's JSON result backend."""

import dataclasses
import enum
import math
from collections import OrderedDict, UserDict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.utils.json import dumps as kombu_dumps

from idempotency.exceptions import ResultNotStorable, ResultUnreadable
from idempotency.results import decode, encode
from tests.unit.values import nested, plain, tagged, through_kombu

LIMIT = 1_000_000
few = settings(max_examples=200, deadline=None)


class Color(enum.Enum):
    RED = "red"


class Text(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class Point:
    x: int = 0


class Order:
    _meta = object()
    pk = 7


def again(value):
    return decode(encode(value, limit=LIMIT))


@pytest.mark.parametrize(
    ("value", "comes_back"),
    [
        (None, None), (True, True), (0, 0), (False, False), ("", ""), ([], []), ({}, {}),
        (2**70, 2**70), (-0.0, -0.0), (math.inf, math.inf), ("é\x00\ud800", "é\x00\ud800"),
        ((1, (2,)), [1, [2]]),
        ({2: 2, None: 3, True: 4, 0.5: 5}, {"2": 2, "null": 3, "true": 4, "0.5": 5}),
        ({math.nan: 1}, {"NaN": 1}),
        ({1: "a", "1": "b"}, {"1": "b"}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (Text.RED, "red"), (Number.ONE, 1), ({Text.RED: Number.ONE}, {"red": 1}),
        (Decimal("1.50"), Decimal("1.50")), (Decimal("-Infinity"), Decimal("-Infinity")),
        (UUID(int=7), UUID(int=7)), (b"\xff\x00", b"\xff\x00"), (b"", b""),
        (date(2026, 7, 1), date(2026, 7, 1)), (time(1, 2, 3, 4), time(1, 2, 3, 4)),
        (datetime(2026, 7, 1, 12), datetime(2026, 7, 1, 12)),
        (datetime(2026, 7, 1, 12, tzinfo=UTC), datetime(2026, 7, 1, 12, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_a_result_comes_back_with_its_type(value, comes_back):
    result = again(value)
    assert (type(result), repr(result)) == (type(comes_back), repr(comes_back))
    assert encode(result, limit=LIMIT) == encode(value, limit=LIMIT)


def test_nan_comes_back():
    assert math.isnan(again(math.nan))
    assert again([Decimal("NaN")])[0].is_nan()


def test_a_time_zone_comes_back_as_its_offset():
    summer = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    second_time = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))
    for instant, offset in ((summer, 2), (second_time, 1)):
        assert again(instant).isoformat() == instant.isoformat()
        assert again(instant).utcoffset() == timedelta(hours=offset)


@pytest.mark.parametrize(
    "value",
    [
        {"__type__": "decimal", "__value__": "1"},
        {"__value__": 1, "__type__": [2]},
        {"__type__": "dict", "__value__": [["a", 1]]},
        [{"__type__": {"__type__": Decimal(1), "__value__": None}, "__value__": (1,)}],
        {"__type__": 1},
        {"__type__": 1, "__value__": 2, "more": 3},
    ],
)
def test_a_mapping_that_looks_like_a_tag_is_a_mapping(value):
    result = again(value)
    assert kombu_dumps(result) == kombu_dumps(value)
    assert encode(result, limit=LIMIT) == encode(value, limit=LIMIT)


def test_the_stored_text_is_never_changed():
    """Texts that are stored today must be read by every later version."""
    value = {
        "b": [None, True, 1, 1.5, "é"],
        "a": [Decimal("1.50"), UUID(int=7), b"\xff", date(2026, 7, 1), time(1, 2)],
        "c": [datetime(2026, 7, 1, 12, tzinfo=UTC), {"__type__": 1, "__value__": 2}],
    }
    text = (
        '{"b": [null, true, 1, 1.5, "\\u00e9"], '
        '"a": [{"__type__": "Decimal", "__value__": "1.50"}, '
        '{"__type__": "UUID", "__value__": "00000000-0000-0000-0000-000000000007"}, '
        '{"__type__": "bytes", "__value__": "/w=="}, '
        '{"__type__": "date", "__value__": "2026-07-01"}, '
        '{"__type__": "time", "__value__": "01:02:00"}], '
        '"c": [{"__type__": "datetime", "__value__": "2026-07-01T12:00:00+00:00"}, '
        '{"__type__": "dict", "__value__": [["__type__", 1], ["__value__", 2]]}]}'
    )
    assert encode(value, limit=LIMIT) == text
    assert decode(text) == value


class Secretive:
    def model_dump(self, mode):
        raise ValueError("4111 1111 1111 1111")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1}, "the result is of type set and cannot be stored; convert it to a sorted list."),
        ([{"a": timedelta(1)}], r"the result at \[0\].a is of type timedelta .* total_seconds"),
        (Color.RED, "of type Color .* use its .value."),
        ([Order()], r"the result at \[0\] is of type Order .* use order.pk."),
        (Point(), "of type Point .* use dataclasses.asdict"),
        (UserDict(), "of type UserDict .* convert it to a dict."),
        (object(), "of type object and cannot be stored; use text, numbers, dates, lists and"),
        (
            Secretive(),
            r"is of type Secretive .*: its model_dump\(mode='json'\) raised ValueError\.$",
        ),
        (iter([]), "of type list_iterator .* convert it to a list."),
        ({"a": {(1, 2): 3}}, "the result at .a has a key of type tuple, which JSON cannot write"),
        ([10**5000], "the result cannot be stored: Exceeds the limit"),
    ],
)
def test_what_celery_could_not_return_is_refused_by_place_type_and_remedy(value, message):
    with pytest.raises(ResultNotStorable, match=message):
        encode(value, limit=LIMIT)


def test_a_result_inside_itself_is_refused():
    value: list[object] = []
    value.append({"again": value})
    with pytest.raises(ResultNotStorable, match="deeper than 100 levels, or contains itself"):
        encode(value, limit=LIMIT)


def test_the_limit_counts_bytes():
    assert encode("x" * 98, limit=100)
    assert len(encode("é" * 16, limit=98)) == 98
    with pytest.raises(
        ResultNotStorable, match="the result takes 1,002 bytes, and MAX_RESULT_BYTES allows 1,001;"
    ):
        encode("x" * 1000, limit=1001)
    with pytest.raises(ResultNotStorable, match="takes 98 bytes"):
        encode("é" * 16, limit=97)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[1", "nul",
        '{"__type__": "later", "__value__": 1}',
        '{"__type__": [], "__value__": 1}',
        '{"__type__": "Decimal", "__value__": "x"}',
        '{"__type__": "UUID", "__value__": "x"}',
        '{"__type__": "UUID", "__value__": 1}',
        '{"__type__": "datetime", "__value__": 1}',
        '{"__type__": "bytes", "__value__": "*"}',
        '{"__type__": "dict", "__value__": 1}',
    ],
)  # fmt: skip
def test_a_damaged_text_says_so(text):
    with pytest.raises(ResultUnreadable, match="the stored result cannot be read"):
        decode(text)


results = nested(
    st.one_of(plain, tagged, st.floats(), st.decimals(), st.sampled_from([Text.RED, Number.ONE]))
)


@few
@given(results)
def test_a_replay_is_what_came_through_the_result_backend(value):
    # By their bytes: NaN is not equal to itself, and equal values can be of different types.
    assert kombu_dumps(again(value)) == kombu_dumps(value)
    assert repr(through_kombu(again(value))) == repr(through_kombu(value))
    assert repr(again(value)) == repr(through_kombu(value))


tag_names = st.sampled_from(["__type__", "__value__", "a"])
tags = st.fixed_dictionaries({"__type__": plain, "__value__": plain})


@few
@given(nested(st.one_of(plain, tagged, tags), names=tag_names))
def test_a_text_read_and_written_again_is_the_same_text(value):
    text = encode(value, limit=LIMIT)
    assert text.isascii()
    assert encode(decode(text), limit=LIMIT) == text
    assert kombu_dumps(decode(text)) == kombu_dumps(value)
