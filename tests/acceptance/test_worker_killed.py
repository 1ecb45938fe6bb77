"""A worker dies at the worst moments. The broker delivers again; the effect is there once."""

import pytest

from idempotency.models import IdempotencyRecord
from idempotency.states import State
from tests.harness.workers import kill_child
from tests.jobs.models import effects
from tests.jobs.tasks import create, enqueue_each, next_step, transactional

pytestmark = pytest.mark.django_db(transaction=True)


def assert_done_once(result, queue, gates):
    assert result.get(timeout=30) == "value"
    queue.wait_empty()
    assert len(gates.arrivals("delivery-transactional")) == 2
    assert effects("key") == 1
    assert [record.state for record in IdempotencyRecord.objects.all()] == [State.SUCCEEDED]


@pytest.mark.parametrize("place", ["body", "effect"])
def test_a_worker_killed_in_the_body_leaves_one_effect(place, worker, queue, gates):
    gates.close(place)
    holder = worker()
    result = queue.send(transactional.s("key", "value"))
    gates.wait_for_arrivals(place)
    assert effects("key") == 0
    holder.kill()
    gates.open(place)
    worker()
    assert_done_once(result, queue, gates)


def test_a_worker_killed_with_its_commit_swallowed_leaves_one_effect(worker, queue, gates, proxy):
    commit = proxy.hold(before="COMMIT")
    worker(database=proxy.url)
    result = queue.send(transactional.s("key", "value"))
    commit.wait_reached()
    kill_child(*gates.arrivals("effect"))
    commit.cut()
    assert_done_once(result, queue, gates)
    assert len(gates.arrivals("body")) == 2


def test_a_worker_killed_before_it_hears_of_its_commit_leaves_one_effect(
    worker, queue, gates, proxy
):
    commit = proxy.hold(after="COMMIT")
    worker(database=proxy.url)
    result = queue.send(transactional.s("key", "value"))
    commit.wait_reached()
    assert effects("key") == 1
    kill_child(*gates.arrivals("effect"))
    assert_done_once(result, queue, gates)
    assert len(gates.arrivals("body")) == 1


def test_a_worker_killed_between_commit_and_ack_leaves_one_effect(worker, queue, gates):
    gates.close("end-transactional")
    holder = worker()
    result = queue.send(transactional.s("key", "value"))
    gates.wait_for_arrivals("end-transactional")
    assert effects("key") == 1
    assert queue.length() == 1
    holder.kill()
    gates.open("end-transactional")
    worker()
    queue.wait_empty()
    assert_done_once(result, queue, gates)


def test_a_worker_killed_between_commit_and_the_next_step_still_starts_it_once(
    worker, queue, gates
):
    gates.close("publish-next_step")
    worker()
    result = queue.send(transactional.s("key", "value") | next_step.s("key"))
    (child,) = gates.wait_for_arrivals("publish-next_step")
    assert effects("key") == 1
    kill_child(child)
    gates.open("publish-next_step")
    assert result.get(timeout=30) == "value"
    queue.wait_empty()
    assert effects("key") == 1
    assert effects("key", "next step") == 1
    assert len(gates.arrivals("delivery-transactional")) == 2


def test_a_worker_killed_while_it_fans_out_still_reaches_every_item_once(worker, queue, gates):
    keys = ["one", "two", "three"]
    gates.close("publish-transactional", after=2)
    worker()
    queue.send(create.s(keys) | enqueue_each.s())
    children = gates.wait_for_arrivals("publish-transactional", 3)
    kill_child(children[-1])
    gates.open("publish-transactional")
    queue.wait_empty()
    # Two before the death, three after it.
    assert len(gates.arrivals("delivery-transactional")) == 5
    assert [effects(key, "created") for key in keys] == [1, 1, 1]
    assert [effects(key) for key in keys] == [1, 1, 1]
