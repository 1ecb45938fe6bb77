"""Record, attempts and operator as a state machine: the app on a real database, step by step beside
a model of it in plain Python, over random sequences of deliveries, deaths, time and verdicts.

A longer run: ``MODEL_EXAMPLES=2000 make test ARGS="tests/model -k stateful"``.
"""

import os

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.process import ALIASES

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "40"))
STEPS = 30


@pytest.mark.django_db(transaction=True, databases=["default", "sqlite"])
@pytest.mark.parametrize("using", ALIASES.values(), ids=ALIASES)
def test_the_app_does_what_the_model_says(using, new_machine, ran, record_property):
    run = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=False,
        print_blob=True,
    )
    try:
        run_state_machine_as_test(new_machine, settings=run)
    finally:
        said = f"stateful, {using}: {ran['examples']:,} examples, {ran['steps']:,} steps"
        record_property("explored", said)
