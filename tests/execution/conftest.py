"""Fixtures of the tests of both runners."""

import itertools

import pytest

from idempotency.keys import Key


@pytest.fixture
def no_locks(monkeypatch):
    """An engine whose advisory locks exclude nobody: the unique key stands alone."""
    numbers = itertools.count()
    monkeypatch.setattr(Key, "lock_numbers", property(lambda key: (next(numbers),)))
