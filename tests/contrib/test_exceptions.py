"""What Celery shows of our exceptions: each row of docs/reference/celery.md."""

import pytest
from celery.exceptions import Retry
from django.db import connection, transaction

from idempotency import current_attempt
from idempotency.exceptions import (
    AlreadyRunning,
    BodyCommitted,
    EffectNotMarked,
    Exhausted,
    InDoubt,
    InsideTransaction,
    KeyMissing,
    KeyNested,
    KeyNotHashable,
    KeyReused,
    LeaseLost,
    ManualCommit,
    NoAttempt,
    NotCommitted,
    ResultNotStorable,
    ResultNotStored,
    ResultUnreadable,
    ShardUnknown,
    TransactionLost,
)
from idempotency.models import IdempotencyRecord, ParkedMessage
from idempotency.storage.postgresql import PostgreSQL
from tests.contrib.deliveries import (
    hasty,
    held,
    pay,
    repeated,
    retrying,
    sharded,
    silent,
    transactional,
)
from tests.execution.bodies import Gate, effect, effects

pytestmark = pytest.mark.django_db(transaction=True)


def swallow_an_error():
    effect()
    try:
        transactional.run("another")
        IdempotencyRecord.objects.raw("no sql")[0]
    except Exception:
        return "swallowed"


def commit():
    effect()
    connection.connection.commit()


def fails(deliver, messages, task, *args, **options):
    """The exception of a delivery that ends as a failure, and leaves no message behind."""
    state, error = deliver(task, *args, **options)
    assert state == "FAILURE"
    assert messages() == []
    assert not ParkedMessage.objects.exists()
    return type(error)


def test_a_missing_key_fails(deliver, messages):
    assert fails(deliver, messages, transactional, "") is KeyMissing


def test_a_key_without_canonical_form_fails(deliver, messages):
    assert fails(deliver, messages, transactional, {1, 2}) is KeyNotHashable


def test_a_reused_key_fails(deliver, messages):
    deliver(pay, "key", 1)
    assert fails(deliver, messages, pay, "key", 2) is KeyReused


def test_a_nested_key_fails(deliver, messages):
    nested = lambda: transactional.run("key")  # noqa: E731 a body
    assert fails(deliver, messages, transactional, "key", do=nested) is KeyNested


def test_a_delivery_inside_of_a_transaction_fails(deliver, messages):
    with transaction.atomic():
        assert fails(deliver, messages, transactional, "key") is InsideTransaction


def test_a_delivery_in_manual_commit_mode_fails(deliver, messages):
    connection.set_autocommit(False)
    try:
        state, error = deliver(transactional, "key")
    finally:
        connection.set_autocommit(True)
    assert (state, type(error)) == ("FAILURE", ManualCommit)


def test_a_body_that_swallowed_a_database_error_fails(deliver, messages):
    assert fails(deliver, messages, transactional, "key", do=swallow_an_error) is NotCommitted
    assert effects() == 0


def test_a_body_that_commits_fails(deliver, messages):
    assert fails(deliver, messages, transactional, "key", do=commit) is BodyCommitted


def test_a_result_that_cannot_be_stored_fails(deliver, messages):
    assert fails(deliver, messages, transactional, "key", do=object) is ResultNotStorable


def test_a_result_that_was_not_stored_fails_for_who_waits_for_it(deliver, messages):
    deliver(silent, "key")
    chain = [transactional.s().set(task_id="next")]
    assert fails(deliver, messages, silent, "key", chain=chain) is ResultNotStored


def test_a_damaged_result_fails(deliver, messages):
    deliver(transactional, "key")
    IdempotencyRecord.objects.update(result="{")
    assert fails(deliver, messages, transactional, "key") is ResultUnreadable


def test_a_mark_without_a_leased_policy_fails(deliver, messages):
    mark = lambda: current_attempt().effect_begins()  # noqa: E731 a body
    assert fails(deliver, messages, transactional, "key", do=mark) is EffectNotMarked


def settle_what_cannot_be_stored(self):
    with current_attempt().settling(object()):
        effect()


@pytest.mark.parametrize(
    ("do", "error"),
    [
        (lambda self: current_attempt().effect_begins(), EffectNotMarked),
        (settle_what_cannot_be_stored, ResultNotStorable),
    ],
)
@pytest.mark.parametrize(
    ("task", "state", "parked"), [(held, "in_doubt", 1), (repeated, "failed", 0)]
)
def test_what_a_leased_body_does_wrong_after_its_effect_began_is_judged_by_its_policy(
    do, error, task, state, parked, deliver, messages
):
    shown, raised = deliver(task, "key", do=do)
    assert (shown, type(raised), messages()) == ("FAILURE", error, [])
    assert IdempotencyRecord.objects.get().state == state
    assert (ParkedMessage.objects.count(), effects()) == (parked, 0)


def test_a_leased_result_that_cannot_be_stored_is_a_success(deliver, messages):
    assert deliver(held, "key", do=lambda self: {effect()}) == ("SUCCESS", {"effect"})
    assert IdempotencyRecord.objects.get().state == "succeeded"
    assert (messages(), effects()) == ([], 1)


def test_no_attempt_outside_of_a_body():
    with pytest.raises(NoAttempt):
        current_attempt()


@pytest.mark.parametrize("task", [transactional, retrying])
def test_a_busy_key_shows_a_retry_and_a_copy(task, deliver, messages):
    gate = Gate()
    with gate.held(lambda: deliver(task, "key", do=lambda *_: gate.pass_())):
        state, shown = deliver(task, "key")
        assert (state, type(shown), type(shown.__cause__)) == ("RETRY", Retry, AlreadyRunning)
    assert len(messages()) == 1


@pytest.mark.parametrize("error", [TransactionLost, LeaseLost])
def test_a_lost_transaction_or_lease_shows_a_retry_and_a_copy(
    error, deliver, messages, monkeypatch
):
    def lose(*_, **__):
        raise error("lost", key="0" * 32)

    monkeypatch.setattr(PostgreSQL, "lock_and_look", lose)
    state, shown = deliver(retrying, "key")
    assert (state, type(shown), type(shown.__cause__)) == ("RETRY", Retry, error)
    assert len(messages()) == 1


@pytest.mark.parametrize("shard", ["nowhere", 7, None])
def test_an_unknown_shard_shows_a_retry_and_a_copy(shard, deliver, messages):
    state, shown = deliver(sharded, "key", shard)
    assert (state, type(shown), type(shown.__cause__)) == ("RETRY", Retry, ShardUnknown)
    assert len(messages()) == 1
    assert deliver(sharded, "key", "default") == ("SUCCESS", "effect")


def test_an_unknown_shard_for_too_long_is_parked_where_the_setting_says(deliver, messages):
    long_ago = {"idempotency_deferred_since": 0}
    state, shown = deliver(sharded, "key", "nowhere", headers=long_ago)
    assert (state, type(shown.exc)) == ("RETRY", ShardUnknown)  # of autoretry_for
    assert (ParkedMessage.objects.get().reason, len(messages())) == ("gave_up", 1)


def test_a_doubt_shows_a_failure_and_is_parked(deliver, messages):
    deliver(held, "key", do=lambda self: 1 / 0)
    state, shown = deliver(held, "key", task_id="second")
    assert (state, type(shown)) == ("FAILURE", InDoubt)
    assert (ParkedMessage.objects.count(), messages()) == (2, [])


def test_a_doubt_under_autoretry_is_parked_and_tried_again(deliver, messages):
    deliver(hasty, "key", do=lambda self: 1 / 0)
    assert len(messages()) == 1
    state, shown = deliver(hasty, "key", do=effect, retries=1)
    assert (state, type(shown.exc)) == ("RETRY", InDoubt)
    assert (ParkedMessage.objects.count(), len(messages())) == (1, 1)


def test_exhausted_shows_a_failure_and_is_parked(deliver, messages):
    deliver(transactional, "key", do=lambda: 1 / 0)
    IdempotencyRecord.objects.update(deaths=10)
    state, shown = deliver(transactional, "key")
    assert (state, type(shown)) == ("FAILURE", Exhausted)
    assert (ParkedMessage.objects.count(), messages()) == (1, [])
