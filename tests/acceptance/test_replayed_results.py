"""What a duplicate's caller gets is what the first caller got, byte for byte."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tests.harness.workers import stored_result
from tests.jobs.models import effects
from tests.jobs.tasks import echo, transactional

pytestmark = pytest.mark.django_db(transaction=True)

VALUES = [
    None,
    0,
    False,
    "",
    [],
    {},
    2**70,
    Decimal("0.10"),
    datetime(2026, 3, 29, 2, 30, 0, 123456, tzinfo=UTC),
]


def test_a_replay_gives_the_bytes_of_the_first_result(worker, queue, gates):
    worker()
    for value in VALUES:
        key = repr(value)
        untouched = queue.send(echo.s(value))
        first = queue.send(transactional.s(key, value))
        answers = [untouched.get(timeout=20), first.get(timeout=20)]
        replay = queue.send(transactional.s(key, value))
        answers.append(replay.get(timeout=20))
        assert [(type(answer), answer) for answer in answers] == [(type(value), value)] * 3
        assert stored_result(first) == stored_result(untouched) != b""
        assert stored_result(replay) == stored_result(first)
        assert effects(key) == 1
    assert len(gates.arrivals("body")) == len(VALUES)
