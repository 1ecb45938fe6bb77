"""A task that outlives the broker's visibility timeout, and duplicates that meet its holder."""

import pytest

from idempotency.exceptions import InDoubt
from idempotency.models import IdempotencyRecord, ParkedMessage
from idempotency.states import State
from tests.harness.waiting import wait_until
from tests.jobs.models import Effect, effects
from tests.jobs.tasks import leased, next_step, transactional

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_task_slower_than_the_visibility_timeout_has_one_effect(worker, queue, gates):
    gates.close("effect")
    workers = [worker(visibility_timeout=2) for _ in range(3)]
    for started in workers:
        started.wait_ready()
    result = queue.send(transactional.s("key", "value") | next_step.s("key"))
    # The body runs for as long as it takes the broker to give its message to others, twice.
    gates.wait_for_arrivals("delivery-transactional", 3, seconds=30)
    assert len(gates.arrivals("body")) == 1
    gates.open("effect")
    # What the next step was given: not the answer of a delivery that found the key busy.
    assert result.get(timeout=30) == "value"
    queue.wait_empty()
    assert effects("key") == 1
    assert effects("key", "next step") == 1
    assert len(gates.arrivals("body")) == 1
    assert {record.deaths for record in IdempotencyRecord.objects.all()} == {None}


@pytest.mark.parametrize("task", [transactional, leased])
def test_a_duplicate_deferred_when_its_holder_dies_does_the_work(task, worker, queue, gates, call):
    gates.close("body")
    # No worker: its message is lost with it, and the duplicate's is the only one left.
    holder = call("tests.jobs.calls:run", {"LEASE_SECONDS": "3"}, task=task.__name__, key="key")
    gates.wait_for_arrivals("body")
    worker(lease=3)
    result = queue.send(task.s("key"))
    gates.wait_for_arrivals(f"publish-{task.__name__}")
    holder.kill()
    gates.open("body")
    result.get(timeout=30)
    queue.wait_empty()
    assert Effect.objects.count() == 1
    assert len(gates.arrivals("body")) == 2


def test_a_woken_worker_ends_the_doubt_about_itself(worker, queue, gates):
    gates.close("effect")
    holder = worker(lease=2)
    result = queue.send(leased.s("key"))
    gates.wait_for_arrivals("effect")
    holder.freeze()
    other = worker(lease=2)
    with pytest.raises(InDoubt):
        result.get(timeout=30)
    assert IdempotencyRecord.objects.get().state == State.IN_DOUBT
    assert ParkedMessage.objects.count() == 1
    deliveries = len(gates.arrivals("end-leased"))
    gates.open("effect")
    holder.wake()
    # Its own end, and the answer to the message that was parked.
    gates.wait_for_arrivals("end-leased", deliveries + 2)
    queue.wait_empty()
    assert other.running
    assert effects("key", "settled") == 1
    assert IdempotencyRecord.objects.get().state == State.SUCCEEDED
    assert ParkedMessage.objects.count() == 0
    assert (gates.directory / "outbox").read_text() == "key\n"


def test_a_worker_frozen_before_its_effect_leaves_it_to_the_one_that_took_over(
    worker, queue, gates
):
    gates.close("body")
    holder = worker(lease=2)
    queue.send(leased.s("key"))
    (frozen,) = gates.wait_for_arrivals("body")
    holder.freeze()
    gates.open("body")
    gates.close("effect")
    worker(lease=2)
    (other,) = gates.wait_for_arrivals("effect")
    assert other != frozen
    ended = len(gates.arrivals("end-leased"))
    holder.wake()
    gates.wait_for_arrivals("end-leased", ended + 1)
    assert gates.arrivals("effect") == [other]
    gates.open("effect")
    wait_until(lambda: effects("key", "settled"), "the settled row")
    queue.wait_empty()
    assert effects("key", "settled") == 1
    assert [record.state for record in IdempotencyRecord.objects.all()] == [State.SUCCEEDED]
    assert (gates.directory / "outbox").read_text() == "key\n"


def test_a_woken_worker_does_not_take_the_message_of_the_one_that_took_over(worker, queue, gates):
    """On Redis both deliveries have one delivery tag: an ack of the first ends the second too."""
    gates.close("body")
    holder = worker(lease=2)
    queue.send(leased.s("key"))
    gates.wait_for_arrivals("body")
    holder.freeze()
    other = worker(lease=2)
    gates.wait_for_arrivals("body", 2)
    ended = len(gates.arrivals("end-leased"))
    gates.close("body", after=1)
    holder.wake()
    gates.wait_for_arrivals("end-leased", ended + 1)
    other.kill()
    gates.open("body")
    wait_until(lambda: effects("key", "settled"), "the effect to happen")
    queue.wait_empty()
    assert (gates.directory / "outbox").read_text() == "key\n"
