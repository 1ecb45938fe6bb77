"""A body that kills its worker each time is stopped; a body that is stopped in order is not."""

import signal

import pytest

from idempotency.exceptions import Exhausted
from idempotency.models import IdempotencyRecord, ParkedMessage
from idempotency.parking import Published
from idempotency.resolution import allow_again
from idempotency.states import State
from tests.harness.waiting import wait_until
from tests.harness.workers import kill_child
from tests.jobs.models import effects
from tests.jobs.tasks import transactional

pytestmark = pytest.mark.django_db(transaction=True)


def kill_in_body(gates, number):
    kill_child(gates.wait_for_arrivals("body", number)[-1])


def test_a_body_that_kills_its_worker_is_stopped_until_it_is_allowed_again(worker, queue, gates):
    gates.close("body")
    worker(TEST_MAX_REDELIVERIES=1)
    result = queue.send(transactional.s("key", "value"))
    kill_in_body(gates, 1)  # the first delivery pays for no note
    kill_in_body(gates, 2)
    with pytest.raises(Exhausted):
        result.get(timeout=40)
    queue.wait_empty()
    assert len(gates.arrivals("body")) == 2
    record = IdempotencyRecord.objects.get()
    assert (record.state, record.deaths) == (State.FAILED, 1)
    assert ParkedMessage.objects.get().reason == "exhausted"
    gates.open("body")
    assert allow_again(record.key_hash, reason="mended") == Published(published=1)
    queue.wait_empty()
    wait_until(lambda: effects("key"), "the effect")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGQUIT])
def test_a_deployment_is_no_death(stop, worker, queue, gates):
    gates.close("body")
    first = worker()
    queue.send(transactional.s("key", "value"))
    kill_in_body(gates, 1)
    gates.wait_for_arrivals("body", 2)  # flagged, and so noted
    first.signal(stop)
    if stop == signal.SIGTERM:
        gates.open("body")
    first.wait(seconds=60)
    gates.open("body")
    second = worker()
    second.wait_ready()
    wait_until(lambda: effects("key"), "the effect", seconds=40)
    queue.wait_empty()
    assert effects("key") == 1
    assert IdempotencyRecord.objects.get().deaths is None
