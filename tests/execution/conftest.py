"""Fixtures of the tests of both runners."""

import itertools
from types import SimpleNamespace

import pytest

from idempotency import parking
from idempotency.keys import Key


@pytest.fixture
def no_locks(monkeypatch):
    """An engine whose advisory locks exclude nobody: the unique key stands alone."""
    numbers = itertools.count()
    monkeypatch.setattr(Key, "lock_numbers", property(lambda key: (next(numbers),)))


@pytest.fixture
def published(monkeypatch):
    """What is published instead of to a broker; a real one is in the acceptance tests."""
    messages = []
    monkeypatch.setattr(parking, "broker", SimpleNamespace(publish=messages.append))
    return messages
