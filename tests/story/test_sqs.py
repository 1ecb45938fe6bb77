"""A standard queue of SQS delivers at least once. The protocol is real, the service is moto's."""

from dataclasses import replace

import pytest
from celery.result import AsyncResult

from idempotency.models import IdempotencyRecord
from idempotency.states import State
from project.celery import app
from tests.harness.waiting import wait_until
from tests.story.tasks import complete_execution

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("moto")]


@pytest.fixture
def sqs(moto):
    return replace(moto, options=moto.options | {"visibility_timeout": 2})


@pytest.fixture
def sqs_worker(worker, sqs):
    """Start a worker on SQS, and wait until it takes messages."""

    def start():
        started = worker(**sqs.environment)
        started.wait_ready()
        return started

    return start


@pytest.fixture
def publish(call, sqs, queue):
    """Publish a task from a process that uses SQS; its result."""

    def publish(signature):
        environment = sqs.environment | {"TEST_QUEUE": queue.name}
        [sent] = call("tests.jobs.calls:publish", environment, signatures=[signature]).answer()
        return AsyncResult(sent, app=app)

    return publish


def settled():
    return [record.state for record in IdempotencyRecord.objects.all()] == [State.SUCCEEDED]


def test_a_task_slower_than_the_visibility_timeout_is_delivered_twice_and_has_one_effect(
    execution, event, sqs_worker, publish, gates
):
    gates.close("written")
    sqs_worker()
    sqs_worker()
    result = publish(complete_execution.s(event))
    first, second = gates.wait_for_arrivals("delivery-complete_execution", 2, seconds=60)[:2]
    assert first != second
    # It has found the first at work, and comes again later.
    gates.wait_for_arrivals("publish-complete_execution", 2)
    gates.open("written")
    assert result.get(timeout=60)["execution"] == execution.pk
    wait_until(settled, "the record")
    gates.wait_for_arrivals("end-complete_execution", 3, seconds=60)
    assert execution.history.count() == 1
    assert len(gates.arrivals("body")) == 1


def test_a_killed_workers_message_is_delivered_again_after_the_visibility_timeout(
    execution, event, sqs_worker, publish, gates
):
    gates.close("written")
    holder = sqs_worker()
    result = publish(complete_execution.s(event))
    gates.wait_for_arrivals("written")
    holder.kill()
    assert execution.history.count() == 0
    gates.open("written")
    sqs_worker()
    assert result.get(timeout=60)["execution"] == execution.pk
    assert execution.history.count() == 1
    assert len(gates.arrivals("body")) == 2
