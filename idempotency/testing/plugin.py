"""The pytest plugin: loaded in every project where the app is installed, so it imports pytest and
nothing else. It does nothing in a test that delivers no message."""

from __future__ import annotations

import sys
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
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell of a failed test what happened to its messages, unless its error does already."""
    report = yield
    if report.failed and call.when == "call" and MESSAGES in sys.modules:
        story_of = sys.modules["idempotency.testing.records"].story_of
        stories = [story_of(message) for message in dict.fromkeys(sys.modules[MESSAGES].recent)]
        if stories and "The story of " not in str(report.longrepr):
            report.sections.append(("idempotency", "\n".join(stories)))
    return report
