"""Workers whose connections come from Django's pool, ``OPTIONS={"pool": ...}``."""

import json

import celery
import pytest
from django.db import connection

from idempotency.models import IdempotencyRecord
from idempotency.states import State
from tests.harness.waiting import wait_until
from tests.jobs.models import effects
from tests.jobs.tasks import leased, retried, transactional

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(celery.VERSION < (5, 6), reason="before Celery 5.6, forks share a pool"),
]


def pool(size: int) -> str:
    return json.dumps({"min_size": 1, "max_size": size, "timeout": 2})


def the_record() -> IdempotencyRecord:
    return IdempotencyRecord.objects.get()


def terminate_all_others() -> int:
    """End the server's side of each connection but our own; how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return len(cursor.fetchall())


def test_a_lease_is_renewed_on_the_second_connection_of_a_pool(worker, queue, gates):
    gates.close("effect")
    worker(lease=2, TEST_POOL=pool(2))
    result = queue.send(leased.s("key"))
    gates.wait_for_arrivals("effect")
    lease = the_record().lease_expires_at
    wait_until(lambda: the_record().lease_expires_at > lease, "the lease to be renewed")
    gates.open("effect")
    assert result.get(timeout=30) is None
    assert (the_record().state, the_record().attempt) == (State.SUCCEEDED, 1)


def test_with_one_connection_a_lease_runs_out_and_its_attempt_still_settles(worker, queue, gates):
    """The body keeps the only connection: to others its attempt is dead, and it ends the doubt."""
    gates.close("effect")
    holder = worker(lease=2, TEST_POOL=pool(1), visibility_timeout=60)
    result = queue.send(leased.s("key"))
    gates.wait_for_arrivals("effect")
    wait_until(lambda: "could not be renewed" in holder.log.read_text(), "a renewal to fail")
    worker(lease=2, visibility_timeout=60)
    queue.send(leased.s("key"))
    wait_until(lambda: the_record().state == State.IN_DOUBT, "the other to take it for dead")
    gates.open("effect")
    assert result.get(timeout=30) is None
    queue.wait_empty()
    assert (the_record().state, the_record().attempt) == (State.SUCCEEDED, 1)
    assert (gates.directory / "outbox").read_text() == "key\n"
    assert effects("key", "settled") == 1


def test_with_one_connection_a_transactional_job_runs(worker, queue):
    worker(TEST_POOL=pool(1))
    for result in [queue.send(transactional.s("key", "value")) for _ in range(2)]:
        assert result.get(timeout=30) == "value"
    assert effects("key") == 1


@pytest.mark.parametrize("task", [transactional, retried])
def test_backends_terminated_in_a_body_and_in_the_pool_cost_nothing(task, worker, queue, gates):
    """In threads, for with each task of a prefork worker Celery closes the whole pool."""
    gates.close("effect")
    worker(pool="threads", TEST_POOL=pool(4))
    result = queue.send(task.s("key"))
    gates.wait_for_arrivals("effect")
    assert terminate_all_others()
    gates.open("effect")
    result.get(timeout=30)
    queue.wait_empty()
    assert terminate_all_others()
    queue.send(task.s("other")).get(timeout=30)
    records = IdempotencyRecord.objects.all()
    assert {(record.state, record.attempt) for record in records} == {(State.SUCCEEDED, 1)}
    if task is transactional:
        assert (effects("key"), effects("other")) == (1, 1)
    else:
        assert len((gates.directory / "outbox").read_text().splitlines()) == 2
