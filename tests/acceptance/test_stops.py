"""Everything by which Celery stops a task in its body, and what is left of it then."""

import signal

import celery
import pytest

from idempotency.maintenance import sweep
from idempotency.models import IdempotencyEvent, IdempotencyRecord, Kind, ParkedMessage
from project.celery import app
from tests.harness.waiting import wait_until
from tests.harness.workers import kill_child
from tests.jobs.models import Effect, effects
from tests.jobs.tasks import leased, next_step, retried_when_lost, transactional

pytestmark = pytest.mark.django_db(transaction=True)


def states():
    return [str(record.state) for record in IdempotencyRecord.objects.all()]


def doubt_is_seen():
    """Whether the sweeper has found the doubt that a silent end leaves behind its lease."""
    sweep()
    return states() == ["in_doubt"]


# -- the hard time limit -------------------------------------------------------------------------


def test_a_hard_time_limit_rolls_back_and_ends_the_message(worker, queue, gates):
    gates.close("effect")
    worker()
    result = queue.send(transactional.s("key").set(time_limit=1))
    result.get(timeout=30, propagate=False)
    assert result.state == "FAILURE"
    queue.wait_empty()
    assert (Effect.objects.count(), states()) == (0, [])


def test_a_hard_time_limit_leaves_a_doubt(worker, queue, gates):
    gates.close("effect")
    worker(lease=1)
    result = queue.send(leased.s("key").set(time_limit=1))
    result.get(timeout=30, propagate=False)
    queue.wait_empty()
    wait_until(doubt_is_seen, "the doubt")


@pytest.mark.skipif(celery.VERSION < (5, 5), reason="before Celery 5.5 it is lost")
def test_a_message_that_met_its_hard_time_limit_comes_again_if_celery_is_told_so(
    worker, queue, gates
):
    gates.close("effect")
    worker(TEST_NO_ACK_ON_TIMEOUT=1)
    result = queue.send(transactional.s("key", "value").set(time_limit=1))
    gates.wait_for_arrivals("effect", 2, seconds=40)
    gates.open("effect")
    assert wait_until(lambda: effects("key"), "the effect", seconds=40) == 1
    queue.wait_empty()
    assert result.get(timeout=30) == "value"


@pytest.mark.skipif(celery.VERSION < (5, 5), reason="before Celery 5.5 it is lost")
def test_a_requeued_message_finds_the_doubt_that_the_hard_time_limit_left(worker, queue, gates):
    gates.close("effect")
    worker(lease=1, TEST_NO_ACK_ON_TIMEOUT=1)
    queue.send(leased.s("key").set(time_limit=1))
    wait_until(ParkedMessage.objects.exists, "the message to be parked", seconds=40)
    gates.open("effect")
    queue.wait_empty()
    assert states() == ["in_doubt"]
    assert (gates.directory / "outbox").read_text() == "key\n"


@pytest.mark.skipif(celery.VERSION < (5, 7), reason="Celery 5.7 has acks_on_timeout")
def test_acks_on_timeout_alone_lets_the_message_come_again(worker, queue, gates):
    gates.close("effect")
    worker(TEST_ACKS_ON_TIMEOUT=0)
    result = queue.send(transactional.s("key", "value").set(time_limit=1))
    gates.wait_for_arrivals("effect", 2, seconds=40)
    gates.open("effect")
    assert wait_until(lambda: effects("key"), "the effect", seconds=40) == 1
    queue.wait_empty()
    assert result.get(timeout=30) == "value"


# -- the end of the worker -----------------------------------------------------------------------


@pytest.mark.parametrize("task", [transactional, leased])
@pytest.mark.parametrize(
    ("stop", "options"),
    [
        pytest.param(signal.SIGTERM, {}, id="warm"),
        pytest.param(
            signal.SIGQUIT,
            {"TEST_SOFT_SHUTDOWN": 3},
            id="soft",
            marks=pytest.mark.skipif(celery.VERSION < (5, 5), reason="Celery 5.5 has it"),
        ),
    ],
)
def test_a_worker_that_is_stopped_gently_ends_its_task_first(
    stop, options, task, worker, queue, gates
):
    gates.close("effect")
    stopped = worker(**options)
    result = queue.send(task.s("key"))
    gates.wait_for_arrivals("effect")
    stopped.signal(stop)
    wait_until(lambda: "hutdown" in stopped.log.read_text(), "the stop to begin")
    gates.open("effect")
    stopped.wait(seconds=40)
    result.get(timeout=10)
    assert queue.length() == 0
    assert (Effect.objects.count(), states()) == (1, ["succeeded"])


def test_a_cold_stop_rolls_back_and_the_message_comes_again(worker, queue, gates):
    gates.close("effect")
    stopped = worker()
    result = queue.send(transactional.s("key", "value"))
    gates.wait_for_arrivals("effect")
    stopped.signal(signal.SIGQUIT)
    stopped.wait(seconds=40)
    assert Effect.objects.count() == 0
    gates.open("effect")
    worker()
    assert result.get(timeout=40) == "value"
    queue.wait_empty()
    assert (effects("key"), states()) == (1, ["succeeded"])


def test_a_cold_stop_after_the_effect_began_is_a_doubt(worker, queue, gates):
    gates.close("effect")
    stopped = worker(lease=1)
    queue.send(leased.s("key"))
    gates.wait_for_arrivals("effect")
    stopped.signal(signal.SIGQUIT)
    stopped.wait(seconds=40)
    gates.open("effect")
    worker(lease=1)
    wait_until(ParkedMessage.objects.exists, "the message to be parked", seconds=40)
    queue.wait_empty()
    assert states() == ["in_doubt"]
    assert (gates.directory / "outbox").read_text() == "key\n"


# -- revoked -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("task", [transactional, leased])
def test_a_task_revoked_in_its_body_is_rolled_back_or_in_doubt(how, task, worker, queue, gates):
    gates.close("effect")
    worker(lease=1).wait_ready()
    result = queue.send(task.s("key"))
    gates.wait_for_arrivals("effect")
    app.control.revoke(result.id, terminate=True, signal=how)
    wait_until(lambda: result.state == "REVOKED", "the revocation", seconds=40)
    queue.wait_empty()
    assert Effect.objects.count() == 0
    if task is leased:
        wait_until(doubt_is_seen, "the doubt")
    else:
        assert states() == []


def test_a_leased_task_that_is_revoked_is_in_doubt_at_once(worker, queue, gates):
    gates.close("effect")
    worker(lease=60).wait_ready()
    result = queue.send(leased.s("key"))
    gates.wait_for_arrivals("effect")
    app.control.revoke(result.id, terminate=True, signal="SIGTERM")
    wait_until(lambda: states() == ["in_doubt"], "the doubt, long before the lease has run out")


def test_a_task_revoked_before_its_start_leaves_no_trace(worker, queue, gates):
    gates.close("effect")
    worker().wait_ready()
    first = queue.send(transactional.s("first"))
    gates.wait_for_arrivals("effect")
    second = queue.send(transactional.s("second"))
    app.control.revoke(second.id, reply=True, timeout=5)
    gates.open("effect")
    first.get(timeout=30)
    wait_until(lambda: second.state == "REVOKED", "the revocation")
    queue.wait_empty()
    assert (effects("first"), effects("second"), states()) == (1, 0, ["succeeded"])


# -- a lost pool process, where Celery retries it itself ------------------------------------------


@pytest.mark.skipif(celery.VERSION < (5, 7), reason="Celery 5.7 has retry_on_worker_lost")
def test_a_task_that_celery_retries_after_its_process_is_lost_has_one_effect(worker, queue, gates):
    gates.close("effect")
    started = worker(TEST_RETRY_ON_WORKER_LOST=1)
    result = queue.send(retried_when_lost.s("key") | next_step.s("key"))
    kill_child(*gates.wait_for_arrivals("effect"))
    gates.wait_for_arrivals("effect", 2, seconds=40)
    gates.open("effect")
    assert result.get(timeout=40) == "value"
    wait_until(lambda: "retry: Retry in" in started.log.read_text(), "Celery to retry it as well")
    assert (effects("key"), effects("key", "next step")) == (1, 1)


# -- pools ---------------------------------------------------------------------------------------


GEVENT = pytest.param(
    "gevent",
    marks=pytest.mark.skipif(celery.VERSION < (5, 5), reason="fails before Celery 5.5"),
)


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", GEVENT])
def test_duplicates_and_chains_keep_their_promise_in_every_pool(pool, worker, queue, gates):
    workers = [worker(pool=pool, concurrency=2, TEST_GATHER_FOR=3600) for _ in range(2)]
    held = queue.send(leased.s("held"))
    jobs = [queue.send(transactional.s("key", "value") | next_step.s("key")) for _ in range(4)]
    for job in jobs:
        assert job.get(timeout=60) == "value"
    assert held.get(timeout=60) is None
    queue.wait_empty()
    assert (effects("key"), effects("key", "next step"), effects("held", "settled")) == (1, 1, 1)
    for each in workers:
        each.stop()
    # Of each step, three: whoever ends in order writes what it has gathered.
    assert IdempotencyEvent.objects.filter(kind=Kind.DUPLICATE).count() == 6
