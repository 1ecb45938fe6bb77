"""The pytest plugin: loaded in every project where the app is installed, so it imports pytest and
nothing else. It does nothing in a test that delivers no message."""

from __future__ import annotations

import sys
import unittest
from collections.abc import Generator
from typing import Any

import pytest

MESSAGES = "idempotency.testing.messages"


@pytest.fixture(params=["before the effect", "after the effect", "after the commit"])
def moment_of_death(request: pytest.FixtureRequest) -> Any:
    """Run the test once for each: ``message.die(moment_of_death)``."""
    return request.param


def pytest_runtest_setup() -> None:
    if MESSAGES in sys.modules:
        sys.modules[MESSAGES].recent.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell of a failed test what happened to its messages, unless its error does already."""
    report = yield
    told = "The story of " in str(report.longrepr)
    if report.failed and call.when == "call" and not told and not _has_rolled_back(item):
        _tell(report)
    return report


def _has_rolled_back(item: pytest.Item) -> bool:
    """Whether its records would seem never to have been: a TestCase ends inside of its call."""
    return issubclass(getattr(item, "cls", None) or object, unittest.TestCase)


def _tell(report: pytest.TestReport) -> None:
    if MESSAGES not in sys.modules:
        return
    try:
        stories = sys.modules[MESSAGES].recent_stories()
    except Exception as error:  # whatever it is, the failure itself has to be shown
        stories = f"What happened to its messages cannot be read: {error!r}"
    if stories:
        report.sections.append(("idempotency", stories))
