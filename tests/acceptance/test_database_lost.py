"""The database goes away under a worker. Nothing is lost, doubled, or falsely called a failure."""

import pytest
from django.db import connection

from idempotency.models import IdempotencyEvent, IdempotencyRecord, Kind
from idempotency.states import State
from tests.harness.waiting import wait_until
from tests.jobs.models import Effect, effects
from tests.jobs.tasks import leased, transactional

pytestmark = pytest.mark.django_db(transaction=True)


def assert_done_once(result, queue):
    assert result.get(timeout=30) == "value"
    queue.wait_empty()
    assert effects("key") == 1
    assert [record.state for record in IdempotencyRecord.objects.all()] == [State.SUCCEEDED]
    assert not IdempotencyEvent.objects.filter(kind=Kind.FAILED).exists()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"before": "pg_try_advisory_xact_lock"}, id="message 1 swallowed"),
        pytest.param({"after": "pg_try_advisory_xact_lock"}, id="reply to message 1 lost"),
        pytest.param({"before": "jobs_effect"}, id="cut in the body"),
        pytest.param({"before": "COMMIT"}, id="COMMIT swallowed"),
        pytest.param({"before": "COMMIT", "times": 5}, id="COMMIT swallowed 5 times"),
        pytest.param({"after": "COMMIT"}, id="reply to COMMIT lost"),
    ],
)
def test_a_cut_connection_loses_and_doubles_nothing(fault, worker, queue, proxy):
    stop = proxy.cut(**fault)
    worker(database=proxy.url)
    result = queue.send(transactional.s("key", "value"))
    stop.wait_reached(fault.get("times", 1), seconds=30)
    assert_done_once(result, queue)


def test_a_backend_terminated_in_the_body_loses_and_doubles_nothing(worker, queue, gates):
    gates.close("effect")
    worker()
    result = queue.send(transactional.s("key", "value"))
    gates.wait_for_arrivals("effect")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state = 'idle in transaction'"
        )
        assert cursor.fetchall() == [(True,)]
    gates.open("effect")
    assert_done_once(result, queue)


def kept_connections():
    """The backends of others in this database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return [pid for (pid,) in cursor.fetchall()]


@pytest.mark.parametrize("task", [transactional, leased])
def test_a_connection_that_celery_keeps_and_the_server_has_ended_costs_nothing(task, worker, queue):
    worker(TEST_DB_REUSE_MAX=2)
    queue.send(transactional.s("before")).get(timeout=40)
    [kept] = kept_connections()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [kept])
    queue.send(task.s("key")).get(timeout=40)
    queue.wait_empty()
    wait_until(lambda: not kept_connections(), "Celery to close the new one after its second task")
    assert Effect.objects.filter(key="key").count() == 1
    assert [record.state for record in IdempotencyRecord.objects.all()] == [State.SUCCEEDED] * 2
    assert not IdempotencyEvent.objects.exists()


@pytest.mark.parametrize("place", ["delivery-transactional", "effect"])
def test_an_outage_loses_and_doubles_nothing(place, worker, queue, gates, proxy):
    gates.close(place)
    worker(database=proxy.url)
    result = queue.send(transactional.s("key", "value"))
    gates.wait_for_arrivals(place)
    proxy.go_down()
    gates.open(place)
    # Longer than the worker tries by itself: the message is back in the queue, for later.
    gates.wait_for_arrivals("publish-transactional", seconds=30)
    assert proxy.refused
    proxy.come_up()
    assert_done_once(result, queue)


def test_an_outage_while_a_claim_settles_is_no_failure(worker, queue, gates, proxy):
    gates.close("effect")
    worker(database=proxy.url)
    queue.send(leased.s("key"))
    gates.wait_for_arrivals("effect")
    cut = proxy.cut(after="COMMIT")
    gates.open("effect")
    cut.wait_reached()
    queue.wait_empty()
    wait_until(lambda: effects("key", "settled") == 1, "the settled row")
    assert [record.state for record in IdempotencyRecord.objects.all()] == [State.SUCCEEDED]
    assert (gates.directory / "outbox").read_text() == "key\n"
