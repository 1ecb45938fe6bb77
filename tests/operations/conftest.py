"""Fixtures of the tests of checks, commands and admin."""

import pytest

from idempotency import jobs


@pytest.fixture(autouse=True)
def _only_the_project_s_scopes(monkeypatch):
    """Tests declare functions by the way, and give two of them one scope."""
    monkeypatch.setattr(jobs, "clashes", set())
