"""Values as jobs get and return them, for Hypothesis."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

from hypothesis import strategies as st
from kombu import serialization


def through_kombu(value):
    """The value as the worker sees it after the broker, and a caller after the result backend."""
    content_type, encoding, data = serialization.dumps(value, serializer="json")
    return serialization.loads(data, content_type, encoding, accept=["application/json"])


def _no_two_names_alike(mapping):
    return len({json.dumps({key: 0}) for key in mapping}) == len(mapping)


# Whole seconds: fromisoformat() of CPython 3.11 reads an offset of +00:00:00.000001 as UTC.
offsets = st.integers(-86399, 86399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
zones = st.one_of(st.timezones(), offsets, st.just(UTC))

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
)
tagged = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
    st.datetimes(timezones=st.one_of(st.none(), zones)),
    st.dates(),
    st.times(timezones=st.one_of(st.none(), zones)),
    st.binary(max_size=6),
)
"""What kombu's JSON carries beside what JSON has."""

# Few, and near each other, so that two of them are often equal or almost equal.
NOON = datetime(2026, 7, 1, 12)
near = st.sampled_from(
    [
        None, True, False, 0, 1, 0.0, -0.0, 1.0, "", "0", "1", "true", "null", "None", b"", b"1",
        Decimal(1), Decimal("1.0"), Decimal("10e-1"), Decimal("-0"), UUID(int=1), UUID(int=1).hex,
        NOON, NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=timezone(timedelta(0), "other")),
        NOON.replace(hour=14, tzinfo=timezone(timedelta(hours=2))), NOON.replace(fold=1),
        NOON.date(), NOON.time(), NOON.isoformat(), timedelta(1), timedelta(hours=24), "s1:1",
    ]
)  # fmt: skip
names = st.one_of(
    st.text(max_size=2),
    st.sampled_from(["1", "1.0", "true", "null", 1, 1.0, True, None, 0.5]),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)


def nested(leaves, names=names):
    """Lists, tuples and mappings of ``leaves``."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(names, inner, max_size=3).filter(_no_two_names_alike),
        ),
        max_leaves=6,
    )
