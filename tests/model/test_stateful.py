"""Record, attempts and operator as a state machine: the app on a real database, step by step beside
a model of it in plain Python, over random sequences of deliveries, deaths, time and verdicts.

A longer run: ``MODEL_EXAMPLES=2000 make test ARGS="tests/model -k stateful"``.
"""

import inspect
import logging
import os
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connections
from django.test import override_settings
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from idempotency import Leased, events, parking, transactional
from idempotency.jobs import Job, jobs
from idempotency.testing.watching import watching
from tests.model.actual import ALIASES, SCOPE, Process
from tests.model.expected import GRACE, MAX_REDELIVERIES
from tests.model.machine import Machine

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "40"))
STEPS = 30


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


@pytest.mark.django_db(transaction=True, databases=["default", "sqlite"])
@pytest.mark.parametrize("using", ALIASES.values(), ids=ALIASES)
def test_the_app_does_what_the_model_says(using, processes, monkeypatch, record_property):
    machines, ran = [], Counter()

    def machine():
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
    run = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=False,
        print_blob=True,
    )
    # Set by hand, it would leave "not enabled" in what each logger remembers of its levels.
    logging.disable(logging.CRITICAL)
    try:
        with override_settings(IDEMPOTENCY=given), watching():
            run_state_machine_as_test(machine, settings=run)
    finally:
        logging.disable(logging.NOTSET)
        said = f"stateful, {using}: {ran['examples']:,} examples, {ran['steps']:,} steps"
        record_property("explored", said)
