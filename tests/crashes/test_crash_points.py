"""Every point at which a delivery can be struck: each durable step, each message to PostgreSQL.

The points are recorded, not listed: a new step or message is struck without a change here. What
the default run leaves out of the product is said at `Recorder.strikes`; ``CRASHES=all`` leaves
out nothing.
"""

import os
from pathlib import Path

import pytest
from django.db import connection

from idempotency import parking
from idempotency.testing.watching import steps
from tests.crashes import outcomes
from tests.crashes.course import Course
from tests.crashes.faults import Fault
from tests.crashes.outcomes import Outcome
from tests.crashes.plan import IS_FULL, Recorder
from tests.crashes.scenario import Scenario
from tests.crashes.situations import PUBLISHED, SITUATIONS, Files
from tests.harness.waiting import wait_until
from tests.harness.wire import Wire

pytestmark = pytest.mark.django_db(transaction=True)

#: Where ``python -m tests.crashes`` collects what was observed, instead of comparing it.
INTO = os.environ.get("CRASHES_INTO")

#: No delivery comes to these as its own step, or they do nothing that lasts.
NOT_MET = {
    "renew": "the heartbeat's thread: tests/execution/test_leased.py",
    "stand_back": "a purge: tests/concurrency/test_purge.py",
    "in_utc": "it only reads an instant",
    "unmigrated": "it only tells what an error means",
}


@pytest.fixture
def recorder(tmp_path, monkeypatch):
    monkeypatch.setattr(parking, "broker", Files())
    with connection.cursor() as cursor:  # a delivery that waits for one that is held ends
        cursor.execute("SET lock_timeout = '1s'; SET synchronous_commit = off")
    with Wire() as wire:
        yield Recorder(wire, tmp_path)
    connection.close()


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name)
@pytest.mark.parametrize("job", SITUATIONS)
def test_a_promise_is_kept_wherever_it_is_struck(job, fault, recorder):
    situation, observed = SITUATIONS[job], set()
    points = recorder.points(situation)
    strikes = [each for each in recorder.strikes(situation) if each.fault is fault]
    for strike in strikes:
        work = recorder.work(f"{job} {strike.number} {fault.name} {strike.again.name}")
        scenario = Scenario(situation, strike, work)
        scenario.run(recorder.wire)
        assert scenario.points == points[: strike.number], f"{scenario} did not strike"
        observed.add(Outcome.of(scenario))
    print(f"\n{job}, {fault.value}: {len(strikes)} strikes at {len(points)} points")
    if situation in PUBLISHED:
        compare(job, fault, observed)


def compare(job, fault, observed):
    """With the file of which the page is made, in which each row was seen by some scenario."""
    if INTO:
        outcomes.write(observed, Path(INTO) / f"{job} {fault.name}.json")
        return
    published = {each for each in outcomes.read() if (each.job, each.fault) == (job, fault)}
    assert not observed - published, "Not on the page. Write it again: python -m tests.crashes"
    assert not IS_FULL or published == observed, "On the page, and nothing comes to this any more"


def test_a_delivery_that_is_frozen_does_not_outlive_a_test_that_fails(recorder):
    course = Course(SITUATIONS["HOLD"], recorder.work("frozen"), recorder.wire, number=1)
    assert course.is_held()
    course.freeze()
    course.end()
    wait_until(lambda: not Path(f"/proc/{course.pid}").exists(), "the process to be gone")


def test_every_step_of_the_storage_is_met(recorder):
    met = {
        point.name.partition(" ")[2]
        for situation in SITUATIONS.values()
        for point in recorder.points(situation)
        if not point.is_message
    }
    assert set(steps()) - met == NOT_MET.keys()
