"""What breaks a careless lease: rows that are gone, purges, and messages that are there twice."""

from datetime import timedelta

import pytest
from django.utils import timezone

from idempotency import Leased, OnDoubt, Verdict, execute, maintenance
from idempotency.exceptions import LeaseLost
from idempotency.maintenance import purge
from idempotency.models import IdempotencyRecord, ParkedMessage
from idempotency.resolution import resolve
from idempotency.storage.postgresql import PostgreSQL
from tests.contrib import deliveries
from tests.execution.bodies import Gate, Thread, effect, effects, the_record, waits_for_a_lock
from tests.harness.waiting import wait_until
from tests.harness.workers import kill_child
from tests.jobs.tasks import transactional

pytestmark = pytest.mark.django_db(transaction=True)

HOLD = Leased(on_doubt=OnDoubt.HOLD)
RETRY = Leased(on_doubt=OnDoubt.RETRY, provider_window=None)


def once(body=effect, **options):
    return execute(body, key="key", scope="test", **options)


def test_a_claim_whose_row_was_deleted_settles_nothing_of_the_next_first_attempt():
    """Both are attempt 1: a number that starts again is no fencing token."""
    gate, other = Gate(), Gate()
    with gate.held(lambda: once(gate.pass_, policy=HOLD)) as stale:
        IdempotencyRecord.objects.all().delete()
        with other.held(lambda: once(other.pass_, policy=HOLD)):
            assert the_record().attempt == 1
            gate.open()
            assert isinstance(stale.result(), LeaseLost)
            assert (the_record().state, the_record().attempt) == ("running", 1)
    assert the_record().state == "succeeded"


def test_a_purge_spares_the_record_that_is_being_claimed(monkeypatch):
    """The purge waits for its row, and asks once more whether it is forgotten."""
    with pytest.raises(ZeroDivisionError):
        once(lambda: 1 / 0)
    IdempotencyRecord.objects.update(expires_at=timezone.now())
    monkeypatch.setattr(maintenance, "PATIENCE", timedelta(minutes=1))
    gate, take_over = Gate(), PostgreSQL.take_over

    def hold_before_commit(*arguments, **options):
        claimed = take_over(*arguments, **options)
        gate.pass_()
        return claimed

    monkeypatch.setattr(PostgreSQL, "take_over", hold_before_commit)
    with gate.held(lambda: once(policy=HOLD)) as claiming:
        with Thread(purge) as purging:
            wait_until(waits_for_a_lock, "the purge to meet the claim")
            gate.open()
            assert purging.result().records == 0
        assert claiming.result().replayed is False
    assert (the_record().state, the_record().attempt) == ("succeeded", 2)


def test_rows_that_a_leased_body_commits_by_itself_are_repeated_with_it():
    """A limit, and what settling() is for."""

    def body():
        effect()
        raise TimeoutError

    for _ in range(2):
        with pytest.raises(TimeoutError):
            once(body, policy=RETRY)
    assert effects() == 2


def test_a_chain_and_a_chord_that_wait_for_one_doubt_both_go_on(deliver, messages):
    def unclear(task):
        raise TimeoutError

    def steps(name):
        return deliveries.transactional.s().set(task_id=name)

    deliver(deliveries.held, "key", do=unclear, task_id="alone")
    in_chord = {"chord": steps("body of the chord"), "group": "a-group"}
    assert deliver(deliveries.held, "key", task_id="in a chord", **in_chord)[0] == "IGNORED"
    deliver(deliveries.held, "key", task_id="in a chain", chain=[steps("next")])
    resolve(the_record().key_hash, Verdict.happened("done"), reason="seen there")
    ids = [headers["id"] for headers, _ in messages()]
    assert sorted(ids) == ["alone", "in a chain", "in a chord"]
    assert ParkedMessage.objects.count() == 0
    assert deliver(deliveries.held, "key", task_id="in a chain") == ("SUCCESS", "done")


def test_a_worker_killed_after_it_deferred_and_before_it_acknowledged_leaves_two_that_are_answered(
    worker, queue, gates
):
    gates.close("effect")
    worker(concurrency=2)
    first = queue.send(transactional.s("key", "value"))
    gates.wait_for_arrivals("effect")
    gates.close("end-transactional")
    second = queue.send(transactional.s("key", "value"))
    # Its copy is published, and it is not acknowledged yet.
    kill_child(*gates.wait_for_arrivals("end-transactional"))
    gates.open("end-transactional")
    gates.open("effect")
    assert (first.get(timeout=30), second.get(timeout=30)) == ("value", "value")
    queue.wait_empty()
    assert len(gates.arrivals("body")) == 1
    assert len(gates.arrivals("delivery-transactional")) >= 4
