"""What happens to keys is told once it stands, whoever listens and however badly."""

import uuid
from contextlib import suppress
from datetime import timedelta

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection, transaction
from django.utils import timezone

from idempotency import (
    Leased,
    OnDoubt,
    Transactional,
    Verdict,
    current_attempt,
    events,
    execute,
    signals,
)
from idempotency.exceptions import InDoubt, LeaseLost
from idempotency.leased import LeasedRun
from idempotency.logs import LEVELS
from idempotency.maintenance import sweep
from idempotency.models import IdempotencyEvent, IdempotencyRecord, Kind
from idempotency.resolution import allow_again, resolve
from tests.execution.bodies import Thread, effect, effects, kinds, the_record
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

ROWS = Transactional()
HOLD = Leased(on_doubt=OnDoubt.HOLD, no_effect_errors=(KeyError,))


def once(body=effect, policy=ROWS, key="key", **options):
    return execute(body, key=key, scope="test", policy=policy, **options)


def fail(error=KeyError):
    raise error("unclear")


def names(told):
    return [name for name, _ in told]


def test_every_signal_has_its_kind_of_event_or_is_of_an_attempt():
    declared = {name for name, value in vars(signals).items() if isinstance(value, signals.Signal)}
    assert declared == LEVELS.keys()
    of_events = {name for name in declared if getattr(signals, name) in events.SIGNALS.values()}
    assert declared - of_events == {"attempt_claimed", "attempt_succeeded"}
    assert events.SIGNALS.keys() == set(Kind)


def test_a_first_run_and_its_duplicate_are_told(told):
    once()
    once()
    assert names(told) == ["attempt_succeeded", "duplicate_replayed"]
    [(_, success), (_, duplicate)] = told
    assert success["key_hash"] == the_record().key_hash
    assert (success["using"], success["scope"], success["attempt"]) == ("default", "test", 1)
    assert timedelta(0) < success["duration"] < timedelta(minutes=1)
    assert duplicate["duration"] is None


@pytest.mark.parametrize("policy", [ROWS, HOLD])
def test_a_success_is_told_after_its_commit(policy):
    """Asked on another connection: there it stands only once it is committed."""
    seen = []

    def receive(**about):
        with Thread(lambda: the_record().state) as other:
            seen.append(other.result())

    signals.attempt_succeeded.connect(receive)
    try:
        once(policy=policy)
    finally:
        signals.attempt_succeeded.disconnect(receive)
    assert seen == ["succeeded"]


def test_a_leased_attempt_is_told_from_its_claim_to_its_end(told):
    with suppress(KeyError):
        once(fail, HOLD)
    once(policy=HOLD)
    assert names(told) == [
        "attempt_claimed",
        "attempt_failed",
        "claim_taken_over",
        "attempt_claimed",
        "attempt_succeeded",
    ]
    assert [about["attempt"] for _, about in told] == [1, 1, 2, 2, 2]
    assert told[1][1]["note"] == "KeyError"


def test_a_doubt_and_its_end_are_told(told):
    with pytest.raises(TimeoutError):
        once(lambda: fail(TimeoutError), HOLD)
    with pytest.raises(InDoubt):
        once(policy=HOLD)
    resolve(the_record().key_hash, Verdict.did_not_happen(), reason="seen in the log", by="ada")
    assert names(told) == ["attempt_claimed", "doubt_found", "doubt_resolved"]
    assert told[2][1]["note"] == "It did not happen, said by ada: seen in the log"


def test_a_settlement_in_the_body_is_told_even_if_the_body_then_fails(told):
    def body():
        with current_attempt().settling():
            effect()
        fail()

    with pytest.raises(KeyError):
        once(body, HOLD)
    assert names(told) == ["attempt_claimed", "attempt_succeeded"]


def test_a_lost_lease_is_told(told):
    def lose():
        IdempotencyRecord.objects.update(claim_id=uuid.uuid4())

    with pytest.raises(LeaseLost):
        once(lose, HOLD)
    assert names(told) == ["attempt_claimed", "lease_lost"]


def test_what_is_allowed_again_is_told(told):
    once()
    allow_again(the_record().key_hash, reason="asked for")
    assert names(told)[1:] == ["key_allowed_again"]


def test_what_is_exhausted_is_told(told):
    with pytest.raises(KeyError):
        once(fail)
    IdempotencyRecord.objects.update(deaths=10)
    with pytest.raises(Exception, match="exhausted"):
        once()
    assert names(told) == ["attempt_failed", "key_exhausted"]


def test_what_the_sweeper_finds_is_told(told):
    with pytest.raises(SystemExit):  # no settlement comes after it is taken away
        once(lambda: IdempotencyRecord.objects.update(claim_id=uuid.uuid4()) and exit(), HOLD)
    IdempotencyRecord.objects.update(lease_expires_at=timezone.now())
    told.clear()
    assert sweep().doubts == 1
    assert [(name, about["note"]) for name, about in told] == [
        ("doubt_found", "Found by the sweeper.")
    ]


def test_what_rolls_back_with_its_caller_is_not_told_as_done(told):
    def child():
        return once(key="child").result

    def parent():
        child()
        fail()

    with pytest.raises(KeyError):
        once(parent)
    assert names(told) == ["attempt_failed"]
    told.clear()
    once(lambda: (child(), child()))
    assert names(told) == ["attempt_succeeded", "duplicate_replayed", "attempt_succeeded"]
    assert kinds() == ["failed"]  # the duplicate's event would have been lost with its caller


def test_a_savepoint_that_takes_a_child_back_takes_its_telling_back(told):
    def parent():
        with suppress(KeyError), transaction.atomic():
            once(key="child")
            fail()

    once(parent)
    assert names(told) == ["attempt_succeeded"]


def test_what_is_done_to_a_record_is_told_with_its_commit(told):
    once()
    told.clear()
    about = events.told(using="default", key_hash=uuid.uuid4(), scope="test", task_id=None)
    with suppress(KeyError), transaction.atomic():
        events.announce_with_commit(Kind.RESOLVED, about)
        fail()
    assert told == []
    with transaction.atomic():
        events.announce_with_commit(Kind.RESOLVED, about)
        assert told == []
    assert names(told) == ["doubt_resolved"]
    assert kinds() == ["resolved"]


def test_a_success_is_told_though_a_hook_of_the_body_fails(told):
    def body():
        transaction.on_commit(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        once(body)
    assert names(told) == ["attempt_succeeded"]


@pytest.mark.parametrize("policy", [ROWS, HOLD])
def test_a_receiver_that_fails_undoes_nothing_and_stops_no_other(policy, told):
    def broken(**about):
        raise RuntimeError("a bug in somebody's metrics")

    for name in ("attempt_claimed", "attempt_succeeded", "duplicate_replayed"):
        getattr(signals, name).connect(broken, dispatch_uid="broken")
    try:
        assert once(policy=policy).result == "effect"
        assert once(policy=policy).replayed
    finally:
        for name in ("attempt_claimed", "attempt_succeeded", "duplicate_replayed"):
            getattr(signals, name).disconnect(dispatch_uid="broken")
    assert names(told)[-2:] == ["attempt_succeeded", "duplicate_replayed"]
    assert the_record().state == "succeeded"


def test_a_storm_is_told_in_full_and_written_down_in_part(told):
    once()
    for _ in range(events.PER_MINUTE + 3):
        once()
    assert names(told).count("duplicate_replayed") == events.PER_MINUTE + 3
    assert IdempotencyEvent.objects.count() == events.PER_MINUTE


@pytest.mark.django_db(transaction=False)
@pytest.mark.parametrize("policy", [ROWS, HOLD])
def test_inside_django_s_test_case_it_is_told_too_and_leaves_no_hook(
    policy, told, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks() as callbacks:
        once(policy=policy)
        once(policy=policy)
    assert names(told)[-2:] == ["attempt_succeeded", "duplicate_replayed"]
    assert callbacks == []


def test_a_duplicate_inside_of_a_call_that_rolls_back_is_not_told(told):
    def parent():
        once(key="child")
        once(key="child")
        fail()

    with pytest.raises(KeyError):
        once(parent)
    assert names(told) == ["attempt_failed"]


def test_a_receiver_whose_statement_fails_does_not_take_the_outer_call_with_it(told):
    def broken(**about):
        connection.cursor().execute("SELECT 1 / 0")

    once(key="child")
    signals.duplicate_replayed.connect(broken)
    try:
        assert once(lambda: once(key="child").result, key="parent").result == "effect"
    finally:
        signals.duplicate_replayed.disconnect(broken)
    assert IdempotencyRecord.objects.count() == 2


def test_the_lease_is_kept_while_a_slow_receiver_is_told_of_its_claim():
    lease, kept = timedelta(seconds=0.5), []

    def slow(**about):
        claimed = the_record().lease_expires_at
        wait_until(lambda: the_record().lease_expires_at > claimed, "the heartbeat", seconds=5)
        kept.append(True)  # an error here would be Django's to log

    signals.attempt_claimed.connect(slow)
    try:
        assert once(policy=Leased(on_doubt=OnDoubt.HOLD, lease=lease)).result == "effect"
    finally:
        signals.attempt_claimed.disconnect(slow)
    assert kept


def test_a_success_is_told_once_whatever_strikes_afterwards(told, monkeypatch, caplog):
    def struck(*_):
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(LeasedRun, "_publish_after_own_doubt", struck)
    assert once(policy=HOLD).result == "effect"
    assert names(told) == ["attempt_claimed", "attempt_succeeded"]
    assert "the sweeper publishes" in caplog.text


def test_a_lease_lost_in_a_settling_block_is_told_and_written_down(told):
    def body():
        with current_attempt().settling():
            IdempotencyRecord.objects.update(claim_id=uuid.uuid4())

    with pytest.raises(LeaseLost):
        once(body, HOLD)
    assert names(told) == ["attempt_claimed", "lease_lost"]
    assert kinds() == ["lease_lost"]


def test_a_leased_body_that_returns_a_generator_has_succeeded_all_the_same(told):
    """Nothing is repeated because of its result, which cannot be stored."""

    def body():
        effect()
        return (each for each in "ab")

    once(body, HOLD)
    assert once(body, HOLD).replayed
    assert effects() == 1
