"""``Leased`` inside a TestCase, where nothing is committed, is what it is where it commits."""

import threading
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.test import override_settings

from idempotency import Leased, OnDoubt, Verdict, current_attempt, execute
from idempotency.exceptions import (
    AlreadyRunning,
    Exhausted,
    InDoubt,
    InsideTransaction,
    LeaseLost,
)
from idempotency.maintenance import purge, sweep
from idempotency.models import IdempotencyEvent, IdempotencyRecord
from idempotency.resolution import allow_again, resolve
from idempotency.testing import (
    AFTER_EFFECT,
    BEFORE_EFFECT,
    Message,
    assert_effects,
    assert_in_doubt,
    assert_succeeded,
    let_time_pass,
    published,
)
from tests.jobs.models import Effect
from tests.testing import jobs
from tests.testing.jobs import effect

pytestmark = pytest.mark.usefixtures("either")

HOLD = Leased(on_doubt=OnDoubt.HOLD, no_effect_errors=(KeyError,))
MARKED = Leased(on_doubt=OnDoubt.HOLD, marks_effect=True)
RETRY = Leased(on_doubt=OnDoubt.RETRY, provider_window=timedelta(hours=1))
LONG = timedelta(minutes=10)


def lease(body=lambda: effect(7), policy=HOLD, key="key"):
    return execute(body, key=key, scope="testing", policy=policy)


def raises(error):
    def body():
        effect(7)
        raise error

    return body


def the_record():
    return IdempotencyRecord.objects.get()


def kinds():
    return list(IdempotencyEvent.objects.order_by("id").values_list("kind", flat=True))


def test_it_claims_settles_and_replays():
    seen = []
    first = lease(lambda: seen.append(the_record().state) or effect(7))
    second = lease()
    assert (seen, the_record().state) == (["running"], "succeeded")
    assert (first.replayed, second.replayed, second.result) == (False, True, first.result)
    assert_effects(Effect.objects)


def test_no_heartbeat_runs_that_would_see_nothing(either):
    names = []
    lease(lambda: names.extend(thread.name for thread in threading.enumerate()))
    assert ("idempotency-heartbeat" in names) is (either == "committed")


def test_a_call_inside_it_finds_the_key_busy():
    def body():
        with pytest.raises(AlreadyRunning):
            lease()
        return "outer"

    assert lease(body).result == "outer"


@pytest.mark.parametrize(
    ("policy", "error", "state", "again"),
    [
        (HOLD, ValueError("?"), "in_doubt", False),
        (HOLD, KeyError("sure"), "failed", True),
        (MARKED, ValueError("not begun"), "failed", True),
        (RETRY, TimeoutError("?"), "failed", True),
    ],
)
def test_what_a_body_raises_is_settled_by_its_policy(policy, error, state, again):
    with pytest.raises(type(error)):
        lease(raises(error), policy)
    assert (the_record().state, the_record().error_class) == (
        state,
        f"builtins.{type(error).__name__}",
    )
    if again:
        assert not lease(policy=policy).replayed
    else:
        with pytest.raises(InDoubt):
            lease(policy=policy)
    assert_effects(Effect.objects, expected=1 + again)  # rows of a leased body stay


def test_an_effect_begins_when_the_body_says_so():
    def body():
        assert the_record().effect_begun_at is None
        current_attempt().effect_begins()
        assert the_record().effect_begun_at is not None
        raise TimeoutError

    with pytest.raises(TimeoutError):
        lease(body, MARKED)
    assert the_record().state == "in_doubt"


def test_rows_commit_together_with_the_settlement_or_not_at_all():
    def body(key, error=None):
        with current_attempt().settling(result="settled"):
            effect(key)
            if error:
                raise error

    assert lease(lambda: body(1), key=1).result == "settled"
    with pytest.raises(ValueError, match="late"):
        lease(lambda: body(2, ValueError("late")), key=2)
    assert list(Effect.objects.values_list("key", flat=True)) == ["1"]
    states = IdempotencyRecord.objects.order_by("id").values_list("state", flat=True)
    assert list(states) == ["succeeded", "in_doubt"]


def test_a_database_error_of_the_body_is_its_own_and_is_settled(either):
    def body():
        effect(7)
        Effect.objects.create(key="x", pid=None)

    effect("before")
    with pytest.raises(IntegrityError):
        lease(body)
    assert the_record().state == "in_doubt"
    # In a TestCase the rows of the body go with the error: the limit that the page names.
    keys = ["before", "7"] if either == "committed" else ["before"]
    assert list(Effect.objects.order_by("id").values_list("key", flat=True)) == keys
    assert the_record().error_class == "django.db.utils.IntegrityError"


def test_a_transaction_of_the_bodys_own_is_free():
    def body():
        with transaction.atomic():
            effect(1)
        with transaction.atomic():
            effect(2)
            transaction.set_rollback(True)
        return "done"

    assert lease(body).result == "done"
    assert Effect.objects.get().key == "1"


def test_a_claim_that_was_taken_over_settles_nothing():
    def body():
        let_time_pass(LONG)
        assert not lease(lambda: "the other's", RETRY).replayed
        return "mine"

    with pytest.raises(LeaseLost):
        lease(body, RETRY)
    assert (the_record().state, the_record().result) == ("succeeded", '"the other\'s"')
    assert kinds() == ["taken_over", "lease_lost"]


def test_who_was_taken_for_dead_and_comes_back_ends_the_doubt():
    def body():
        let_time_pass(LONG)
        with pytest.raises(InDoubt):
            lease()
        return "alive"

    assert lease(body).result == "alive"
    assert (the_record().state, kinds()) == ("succeeded", ["in_doubt", "resolved"])


def test_a_repeat_outside_of_the_providers_window_is_a_doubt():
    with pytest.raises(TimeoutError):
        lease(raises(TimeoutError()), RETRY)
    let_time_pass(timedelta(hours=2))
    with pytest.raises(InDoubt):
        lease(policy=RETRY)
    assert the_record().state == "in_doubt"


def test_who_declared_a_function_is_asked_after_the_lease():
    asked = []

    def ask(doubt):
        asked.append(doubt.key_hash)
        return Verdict.happened("there")

    policy = Leased(on_doubt=ask)
    with pytest.raises(TimeoutError):
        lease(raises(TimeoutError()), policy)
    with pytest.raises(AlreadyRunning):
        lease(policy=policy)
    let_time_pass(LONG)
    assert lease(policy=policy).result == "there"
    assert asked == [the_record().key_hash]


def test_a_body_that_dies_each_time_is_exhausted():
    message = Message(jobs.mail, 7)
    for _ in range(2):
        message.die(BEFORE_EFFECT)
        let_time_pass(LONG)
    with override_settings(IDEMPOTENCY={"MAX_REDELIVERIES": 2}):
        delivered = message.deliver()
    assert isinstance(delivered.error, Exhausted)
    assert delivered.parked
    with published() as messages:
        allow_again(message.record.key_hash, reason="fixed")
    assert [each.deliver().replayed for each in messages] == [False]
    assert_succeeded(message)


def test_the_sweeper_and_the_commands_find_resolve_and_purge():
    message = Message(jobs.charge, 7)
    message.die(AFTER_EFFECT)
    let_time_pass(LONG)
    assert sweep().doubts == 1
    assert_in_doubt(message)
    key_hash = message.record.key_hash.hex
    call_command("idempotency_resolve", key_hash, happened=True, result='"seen"', reason="seen")
    assert message.deliver().result == "seen"
    let_time_pass(timedelta(days=31))
    assert purge().records == 1


def test_it_is_refused_inside_a_transaction_as_where_it_commits():
    with transaction.atomic(), pytest.raises(InsideTransaction):
        lease()
    assert_effects(Effect.objects, expected=0)


def test_a_result_that_cannot_be_stored_is_no_reason_to_repeat():
    lease(object)
    assert lease(object).result is None
    assert (the_record().state, the_record().result) == ("succeeded", None)


def test_a_verdict_ends_a_doubt():
    with pytest.raises(TimeoutError):
        lease(raises(TimeoutError()))
    resolve(the_record().key_hash, Verdict.did_not_happen(), reason="not there")
    assert not lease().replayed
