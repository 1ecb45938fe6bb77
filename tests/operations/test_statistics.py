"""How often a duplicate really happens, counted from what real deliveries have left behind."""

from datetime import timedelta

import pytest
from django.utils import timezone

from idempotency import execute
from idempotency.events import PER_MINUTE
from idempotency.models import IdempotencyEvent, IdempotencyRecord
from idempotency.statistics import Rate, redelivery_rates, traffic
from tests.harness.waiting import wait_until
from tests.harness.workers import kill_child
from tests.jobs.tasks import next_step, transactional

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


def call(key="key", scope="scope", *, error=None):
    def body():
        if error:
            raise error

    execute(body, key=key, scope=scope)


def rate():
    [rate] = redelivery_rates(since=HOUR)
    return rate


def wait_for_duplicates(number):
    """A worker writes them a moment after it has answered them."""
    written = IdempotencyEvent.objects.filter(kind="duplicate")
    wait_until(lambda: written.count() == number, "the worker to write its duplicates")


def test_duplicates_of_a_worker_are_counted_by_scope(worker, queue, gates):
    gates.close("publish-next_step")
    worker()
    for key in ("one", "one", "two"):
        queue.send(transactional.s(key))
    result = queue.send(transactional.s("three") | next_step.s("four"))
    # Committed, not acknowledged: the broker delivers it again, and says so.
    child = gates.wait_for_arrivals("publish-next_step", seconds=40)
    wait_for_duplicates(1)  # which a child that is killed would lose
    kill_child(*child)
    gates.open("publish-next_step")
    result.get(timeout=40)
    queue.wait_empty()
    wait_for_duplicates(2)
    assert redelivery_rates(since=HOUR) == [
        Rate(
            scope="tests.jobs.tasks.next_step",
            deliveries=1,
            duplicates=0,
            redelivered=0,
            is_lower_bound=False,
        ),
        Rate(
            scope="tests.jobs.tasks.transactional",
            deliveries=5,
            duplicates=2,
            redelivered=1,
            is_lower_bound=False,
        ),
    ]
    # Another way of counting comes to the same.
    numbers = {
        scope.name: (scope.deliveries, scope.duplicates.total(), scope.redelivered)
        for scope in traffic("default").scopes
    }
    assert numbers == {
        "tests.jobs.tasks.next_step": (1, 0, 0),
        "tests.jobs.tasks.transactional": (5, 2, 1),
    }


def test_a_message_that_waited_for_its_key_is_one_duplicate(worker, queue, gates):
    gates.close("effect")
    worker(concurrency=2)
    first = queue.send(transactional.s("key"))
    gates.wait_for_arrivals("effect", seconds=40)
    published = len(gates.arrivals("publish-transactional"))
    second = queue.send(transactional.s("key"))
    gates.wait_for_arrivals("publish-transactional", published + 2)
    gates.open("effect")
    first.get(timeout=40)
    second.get(timeout=40)
    wait_for_duplicates(1)
    assert (rate().deliveries, rate().duplicates) == (2, 1)


def test_without_duplicates_there_is_no_rate():
    call()
    assert rate().one_in is None


def test_one_in_so_many_deliveries_was_a_duplicate():
    for key in ("a", "b", "c", "c"):
        call(key)
    assert rate().one_in == 4


def test_a_run_that_failed_is_a_delivery_and_its_repeat_no_duplicate():
    with pytest.raises(ValueError, match="no"):
        call(error=ValueError("no"))
    call()
    assert (rate().deliveries, rate().duplicates) == (2, 0)


def test_what_came_before_the_period_is_not_counted():
    call("old")
    call("old")
    before = timezone.now() - 2 * HOUR
    IdempotencyRecord.objects.update(settled_at=before)
    IdempotencyEvent.objects.update(at=before)
    assert redelivery_rates(since=HOUR) == []
    call("new")
    assert rate().deliveries == 1
    [whole] = redelivery_rates(since=before)
    assert (whole.deliveries, whole.duplicates) == (3, 1)


def test_a_storm_is_sampled_and_the_rate_says_so():
    for key in ("a", "b"):
        for _ in range(PER_MINUTE):
            call(key)
    assert not rate().is_lower_bound
    for _ in range(5):
        call("a")
    assert rate().is_lower_bound
    # Of the 14 duplicates of the first key 10 were written down.
    assert rate().duplicates == 2 * PER_MINUTE - 1
