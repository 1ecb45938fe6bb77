"""The app beside its model; and what was explored is told at the end:
``make test ARGS=tests/model``."""

import inspect
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db import connections
from django.test import override_settings

from idempotency import Leased, events, parking, transactional
from idempotency.jobs import Job, jobs
from idempotency.testing.watching import watching
from tests.model.actual import SCOPE
from tests.model.machine import Machine
from tests.model.process import Process
from tests.model.record import GRACE, MAX_REDELIVERIES


def pytest_terminal_summary(terminalreporter):
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.getreports(kind)]
    explored = [
        said for each in reports for name, said in each.user_properties if name == "explored"
    ]
    if explored:
        terminalreporter.section("the models")
        for line in sorted(explored):
            terminalreporter.write_line(line)


@pytest.fixture
def processes(monkeypatch):
    # What is flushed to disk is no part of the model.
    options = connections["sqlite"].settings_dict["OPTIONS"]
    monkeypatch.setitem(options, "init_command", "PRAGMA synchronous = OFF")
    connections["sqlite"].close()
    processes = [Process() for _ in range(3)]
    yield processes
    for process in processes:
        process.close()
    connections["sqlite"].close()


@pytest.fixture
def ran() -> Counter[str]:
    """Examples and steps."""
    return Counter()


@pytest.fixture
def new_machine(using, processes, ran, monkeypatch) -> Iterator[Callable[[], Machine]]:
    """Makes a machine on the database ``using``; the one made last is that of the app's hooks."""
    machines: list[Machine] = []

    def new() -> Machine:
        machines[:] = [Machine(using, processes, ran)]
        return machines[0]

    def asked(doubt):
        return machines[0].actual.ask(doubt)

    class Broker:
        def publish(self, message):
            machines[0].actual.publish(message)

        def arguments(self, message):
            return [], {}

    job = Job(
        name=SCOPE,
        policy=Leased(on_doubt=asked),
        using=using,
        retention=None,
        signature=inspect.signature(lambda: None),
        key_paths=(),
    )
    monkeypatch.setitem(jobs, SCOPE, job)
    monkeypatch.setattr(parking, "broker", Broker())
    monkeypatch.setattr(transactional, "GRACE", timedelta(hours=GRACE))
    monkeypatch.setattr(events, "PER_MINUTE", 1000)
    given = {"MAX_REDELIVERIES": MAX_REDELIVERIES, "EVENT_RETENTION": timedelta(days=10000)}
    # Set by hand, it would leave "not enabled" in what each logger remembers of its levels.
    logging.disable(logging.CRITICAL)
    try:
        with override_settings(IDEMPOTENCY=given), watching():
            yield new
    finally:
        logging.disable(logging.NOTSET)
