"""A value becomes hashes and a fingerprint; a change of either is seen."""

import enum
import os
import subprocess
import sys
from collections import UserDict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from idempotency.exceptions import KeyMissing
from idempotency.keys import Digest, Key, canonical, digest

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


class Text(enum.Enum):
    NONE = ""
    RED = "red"


GOLDEN_ENCODING = (
    b"m186:s1:al54:z0:b1:1i1:1i19:-400000000000000000f8:?\xf8\x00\x00\x00\x00\x00\x00s2:\xc3\xa9x1:\xff"
    b"s1:bl40:n7:-125e-1u16:\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05p7:1500000"
    b"s1:cl68:a16:1782907200000000w19:2026-07-01T12:00:00d10:2026-07-01t8:01:02:03"
)
GOLDEN_PLAIN = ["81061f53-e5de-5c48-591c-5ca2553ffbdc", "f01403b9-c95c-f99f-325f-be7c5277ab45"]
GOLDEN_SIGNED = ["3c5d203f-0297-8252-0b7d-b61e07208391", "a0e67a0c-f46c-41bd-a937-f5520ae0a5c1"]


def test_a_change_of_the_encoding_is_seen():
    value = {
        "a": [None, True, 1, -(2**70), 1.5, "é", b"\xff"],
        "b": [Decimal("-12.50"), UUID(int=5), timedelta(seconds=1.5)],
        "c": [NOON, NOON.replace(tzinfo=None), date(2026, 7, 1), time(1, 2, 3)],
    }
    assert canonical(value) == GOLDEN_ENCODING
    plain = digest(value, scope="golden", fingerprint=["x"])
    signed = digest(value, scope="golden", fingerprint=["x"], secrets=["secret"])
    assert [str(part) for part in plain.digests[0]] == GOLDEN_PLAIN
    assert [str(part) for part in signed.digests[0]] == GOLDEN_SIGNED


@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_makes_the_same_key(seed):
    code = (
        "from idempotency.keys import digest\n"
        "value = {name: {name: 1, 'a': [name]} for name in 'abcdefgh'}\n"
        "print(*digest(value, scope='s', fingerprint=value, secrets=['x']).digests[0])"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    value = {name: {name: 1, "a": [name]} for name in "hgfedcba"}
    key = digest(value, scope="s", fingerprint=value, secrets=["x"])
    assert run.stdout.split() == [str(part) for part in key.digests[0]]


@pytest.mark.parametrize("value", [None, "", b"", [], (), {}, Text.NONE, UserDict()])
def test_nothing_is_no_key(value):
    with pytest.raises(KeyMissing, match=r"s: key is (None|empty \(\w+\)), so nothing tells"):
        digest(value, scope="s")


@pytest.mark.parametrize("value", [0, False, 0.0, "0", [None], [""], [[]], {"": None}, (0, 1)])
def test_zero_is_a_key(value):
    assert digest(value, scope="s")


@pytest.mark.parametrize("nothing", [None, "", b""])
def test_a_part_of_nothing_is_no_key(nothing):
    with pytest.raises(KeyMissing, match="s: key, part 2, is "):
        digest((1, nothing), scope="s")


def test_the_scope_keeps_keys_apart():
    assert digest("a", scope="bc").hashes != digest("a", scope="b").hashes
    assert digest("ca", scope="b").hashes != digest("a", scope="bc").hashes


@pytest.mark.parametrize("scope", ["", " ", None, 7, "a\x00", "a\ud800"])
def test_a_scope_is_a_name(scope):
    with pytest.raises(TypeError, match="scope must be a printable text that is not empty"):
        digest(1, scope=scope)


def test_no_fingerprint_is_none():
    assert digest(1, scope="s").digests[0].fingerprint is None


def test_the_fingerprint_includes_the_key():
    prints = {
        digest(key, scope=scope, fingerprint=compared).digests[0].fingerprint
        for key in (1, 2)
        for scope in "st"
        for compared in (1, 2)
    }
    assert len(prints) == 8


def test_key_and_fingerprint_are_hashed_apart():
    key = digest(1, scope="s", fingerprint=1)
    assert key.digests[0].key_hash != key.digests[0].fingerprint


def test_each_secret_makes_a_digest_and_the_first_signs():
    old_first = digest("x", scope="s", fingerprint=1, secrets=["a", "b"])
    new_first = digest("x", scope="s", fingerprint=1, secrets=["b", "a"])
    plain = digest("x", scope="s", fingerprint=1)
    assert old_first.digests == new_first.digests[::-1]
    assert len({*old_first.hashes, *plain.hashes}) == 3
    for key_hash, fingerprint in new_first.digests:
        assert old_first.fingerprint_for(key_hash) == fingerprint
    with pytest.raises(KeyError):
        old_first.fingerprint_for(plain.hashes[0])


def test_lock_numbers_are_the_first_half_as_a_signed_number():
    low = UUID("80000000-0000-0000-ffff-ffffffffffff")
    high = UUID("00000000-0000-0001-ffff-ffffffffffff")
    key = Key("s", (Digest(low, None), Digest(high, None)), "x")
    assert key.lock_numbers == (-(2**63), 1)
    assert key.hashes == (low, high)


def test_the_readable_form_is_short_and_can_be_stored():
    value = {"a": [1, "é\x00", Decimal("1.50"), Text.RED, b"\xff", UserDict(x=NOON), {1: 2}]}
    assert digest(value, scope="s").readable == (
        '{"a": [1, "é\\u0000", "1.50", "red", "ff", {"x": "2026-07-01 12:00:00+00:00"}, {"1": 2}]}'
    )
    assert digest("x" * 198, scope="s").readable == f'"{"x" * 198}"'
    cut = digest("x" * 1_000_000, scope="s").readable
    assert (len(cut), cut[-1]) == (200, "…")
    assert digest(10**5000, scope="s").readable == "…"


def test_two_keys_are_equal_whatever_their_readable_form():
    one, other = digest(Decimal("1.0"), scope="s"), digest(Decimal("1.00"), scope="s")
    assert one.readable != other.readable
    assert one == other
    assert hash(one) == hash(other)
