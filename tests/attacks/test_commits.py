"""What breaks a careless commit: notes that come late, locks that collide or do not exclude."""

import itertools
import threading
from contextlib import suppress
from datetime import timedelta
from functools import partial

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test import override_settings
from psycopg import connect

from idempotency import Leased, OnDoubt, execute
from idempotency.attempts import Delivery
from idempotency.calls import Call, Outcome
from idempotency.digests import digest
from idempotency.exceptions import AlreadyRunning
from idempotency.execution import run
from idempotency.keys import Key
from idempotency.models import IdempotencyRecord
from idempotency.policies import Transactional
from idempotency.storage.postgresql import PostgreSQL
from tests.contrib import deliveries
from tests.execution.bodies import Gate, Thread, effect, effects, renamed, the_record
from tests.harness.processes import database_url
from tests.harness.waiting import wait_until
from tests.jobs.tasks import transactional

pytestmark = pytest.mark.django_db(transaction=True)

HOLD = Leased(on_doubt=OnDoubt.HOLD)


def once(body=effect, key="key", **options):
    return execute(body, key=key, scope="test", **options)


def fail():
    raise ValueError("no luck")


# -- the note of a failure -------------------------------------------------------------------------


def test_a_failure_noted_while_another_attempt_runs_is_not_taken_for_its_success(late_note):
    """The second INSERT meets our own key, and the record that it meets has no result."""
    gate = Gate()

    def slow():
        effect()
        gate.pass_()
        return "second"

    with late_note.held(lambda: once(fail)) as first, gate.held(lambda: once(slow)) as second:
        late_note.open()
        assert isinstance(first.result(), ValueError)
        assert the_record().state == "failed"
        gate.open()
        assert second.result().result == "second"
    assert effects() == 1
    assert (the_record().state, the_record().result) == ("succeeded", '"second"')


@pytest.mark.parametrize("state", ["running", "in_doubt", "succeeded"])
def test_a_late_note_of_a_failure_touches_nothing_but_a_failure(state, late_note):
    def land():
        late_note.open()
        return first.result()

    def unclear():
        raise TimeoutError

    with late_note.held(lambda: once(fail)) as first:
        if state == "running":
            once(land, policy=HOLD, store_result=False)
        elif state == "in_doubt":
            with suppress(TimeoutError):
                once(unclear, policy=HOLD)
        else:
            once()
        ended = land()
    if state == "succeeded":
        assert ended.replayed is True  # the failure was overtaken, and is answered
    else:
        assert isinstance(ended, ValueError)
    record = the_record()
    assert record.state == ("succeeded" if state == "running" else state)
    assert (record.attempt, record.error_class) in [(1, None), (1, "builtins.TimeoutError")]


def test_a_note_of_a_failure_does_not_wait_for_a_commit_that_never_ends():
    gate = Gate()
    [key_hash] = digest("key", scope="test", secrets=()).hashes

    def never_ends():
        with transaction.atomic():
            IdempotencyRecord.objects.create(
                key_hash=key_hash, scope="test", state="succeeded", attempt=1, generation=1,
                settled_at=Now(), expires_at=Now(),
            )  # fmt: skip
            gate.pass_()

    with gate.held(never_ends):
        with pytest.raises(ValueError, match="no luck"):
            once(fail)
        assert not IdempotencyRecord.objects.exists()


# -- transactions and locks ------------------------------------------------------------------------


def test_an_error_in_the_first_message_leaves_no_transaction_open():
    with renamed("idempotency_record"), pytest.raises(ImproperlyConfigured):
        once()
    effect("afterwards")
    with connect(database_url(), autocommit=True) as other:
        seen = other.execute("SELECT note FROM jobs_effect").fetchall()
        locks = other.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database "
            "WHERE locktype = 'advisory' AND datname = current_database()"
        )
        assert (seen, locks.fetchone()) == ([("afterwards",)], (0,))


def test_a_hook_of_a_process_that_is_killed_after_the_commit_never_runs(call, gates):
    """A limit: what must follow goes through the result."""
    gates.close("hook")
    killed = call("tests.attacks.calls:leave_a_hook")
    gates.wait_for_arrivals("hook")
    killed.kill()
    gates.open("hook")
    assert once().replayed is True
    assert (effects(), effects("hook")) == (1, 0)


def test_a_frozen_holder_has_no_record_and_loses_no_duplicate(call, gates):
    gates.close("effect")
    holder = call("tests.jobs.calls:run", task="transactional", key="key")
    gates.wait_for_arrivals("effect")
    holder.freeze()
    for _ in range(20):
        with pytest.raises(AlreadyRunning):
            transactional("key")
    assert not IdempotencyRecord.objects.exists()
    gates.open("effect")
    holder.wake()
    assert holder.answer() == ["returned", None]
    transactional("key")
    assert (effects(), len(gates.arrivals("body"))) == (1, 1)


def test_waiting_for_a_key_leaves_the_body_its_own_limits(monkeypatch):
    """A lock_timeout that leaks makes the body's own short wait the reason to begin anew."""
    gate, looks, look = Gate(), [], PostgreSQL.lock_and_look
    monkeypatch.setattr(
        PostgreSQL, "lock_and_look", lambda *arguments: looks.append(1) or look(*arguments)
    )

    def settings():
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('lock_timeout')")
            return cursor.fetchone()[0]

    plain = settings()
    patient = Thread(lambda: once(settings, wait=timedelta(seconds=20)))
    with gate.held(lambda: once(lambda: [gate.pass_(), fail()])), patient:
        wait_until(lambda: len(looks) > 2, "the wait to begin")
        gate.open()
        assert patient.result().result == plain


def test_a_duplicate_is_answered_while_somebody_looks_at_its_record():
    """Who looks holds the key's lock too, for a moment: the record comes before the lock."""
    once()
    [number] = digest("key", scope="test", secrets=()).lock_numbers
    with connect(database_url()) as looker:
        looker.execute("SELECT pg_advisory_xact_lock(%s)", [number])
        assert once().replayed is True


def test_two_keys_with_one_lock_are_busy_for_each_other_and_nothing_else(monkeypatch):
    monkeypatch.setattr(Key, "lock_numbers", (4711,))
    gate = Gate()
    one = gate.held(lambda: once(lambda: [gate.pass_(), effect()], key="one"))
    with one, pytest.raises(AlreadyRunning):
        once(key="other")
    assert once(key="other").replayed is False
    assert (effects(), IdempotencyRecord.objects.count()) == (2, 2)


def test_with_the_lock_lost_a_transaction_gives_way_to_the_claim_of_its_key(monkeypatch):
    numbers = itertools.count()
    monkeypatch.setattr(Key, "lock_numbers", property(lambda key: (next(numbers),)))
    gate = Gate()
    with gate.held(lambda: once(lambda: [effect("transactional"), gate.pass_()])) as overtaken:
        assert once(lambda: effect("leased"), policy=HOLD).replayed is False
        gate.open()
        assert overtaken.result() == Outcome("leased", replayed=True)
    assert (effects("transactional"), effects("leased")) == (0, 1)


def test_a_body_cannot_give_the_lock_of_its_key_away():
    gate = Gate()

    def body():
        with suppress(ValueError), transaction.atomic():
            fail()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock_all()")
        gate.pass_()

    with gate.held(lambda: once(body)), pytest.raises(AlreadyRunning):
        once()


def test_two_calls_that_join_each_other_s_keys_do_not_wait_for_each_other():
    gate = Gate()

    def outer(inner):
        effect(inner)
        return once(lambda: effect(inner), key=inner).result

    with gate.held(lambda: once(lambda: [gate.pass_(), outer("b")], key="a")) as other:
        with pytest.raises(AlreadyRunning):
            once(lambda: outer("a"), key="b")
        gate.open()
        assert other.result().replayed is False
    assert once(lambda: outer("a"), key="b").replayed is True
    assert (effects("b"), effects("a")) == (2, 0)


def test_a_busy_call_inside_of_a_task_defers_the_message_of_the_task(deliver, messages):
    gate = Gate()

    def outer():
        effect("outer")
        with suppress(AlreadyRunning):
            once(key="inner")

    with gate.held(lambda: once(gate.pass_, key="inner")):
        state, _ = deliver(deliveries.transactional, "key", do=outer)
        assert (state, effects("outer")) == ("RETRY", 0)
        [(headers, arguments)] = messages()
    assert (headers["id"], headers["retries"], arguments) == ("the-task", 0, ["key"])
    assert deliver(deliveries.transactional, "key", do=outer)[0] == "SUCCESS"
    assert effects("outer") == 1


def redelivered(key):
    delivery = Delivery()
    delivery.redelivered = delivery.repeated = True
    hashed = digest(key, scope="test", secrets=())
    body = partial(effect, key)
    return run(Call(function=body, key=hashed, policy=Transactional(), delivery=delivery)).result


def test_copies_that_come_at_once_are_neither_run_twice_nor_counted_as_deaths():
    for key in map(str, range(10)):
        barrier = threading.Barrier(6)
        threads = [Thread(lambda: [barrier.wait(), redelivered(key)]) for _ in range(6)]  # noqa: B023 ended in this round
        for thread in threads:
            thread.__enter__()
        ends = {type(thread.result()) for thread in threads}
        assert ends <= {list, AlreadyRunning}
        assert redelivered(key) == key
        assert effects(key) == 1
    records = IdempotencyRecord.objects.values_list("state", "deaths", "exhausted_at")
    assert set(records) == {("succeeded", None, None)}


def test_a_process_that_does_not_know_the_new_secret_runs_the_job_again():
    """A limit: a secret is rotated in two deploys. In one, the old process looks elsewhere."""
    with override_settings(IDEMPOTENCY={"KEY_SECRETS": ["new", "old"]}):
        once()
    with override_settings(IDEMPOTENCY={"KEY_SECRETS": ["old"]}):
        assert once().replayed is False
    assert effects() == 2
