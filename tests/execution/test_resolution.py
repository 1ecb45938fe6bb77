"""A doubt ends by a verdict, and the messages that waited are published."""

import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import connection, transaction
from django.utils import timezone

from idempotency import Leased, OnDoubt, Verdict, execute, parking
from idempotency.exceptions import NotInDoubt, NotSettled, ResultNotStorable
from idempotency.maintenance import Swept, sweep
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage, Reason
from idempotency.parking import Published, park, publish_parked
from idempotency.resolution import allow_again, resolve
from tests.execution.bodies import Gate, Thread, effect, effects, the_record, waits_for_a_lock
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

HOLD = Leased(on_doubt=OnDoubt.HOLD, lease=timedelta(minutes=1))


def once(body=effect, **options):
    return execute(body, key="key", scope="test", policy=HOLD, **options)


@pytest.fixture
def doubt():
    """The key hash of a record in doubt."""
    with pytest.raises(ZeroDivisionError):
        once(lambda: 1 / 0, retention=timedelta(days=90))
    return the_record().key_hash


def test_what_happened_is_answered_from_then_on(doubt):
    resolve(doubt, Verdict.happened({"id": 7}), reason="seen there", by="ada")
    assert once().result == {"id": 7}
    assert effects() == 0
    event = IdempotencyEvent.objects.get(kind="resolved")
    assert event.note == "It happened, said by ada: seen there"


def test_a_rehearsal_changes_nothing_and_says_what_would_be_published(doubt, published):
    park("default", doubt, Reason.IN_DOUBT, task_id="a", message="a")
    park("default", doubt, Reason.IN_DOUBT, task_id="b", message=None)
    before = IdempotencyRecord.objects.values().get(), IdempotencyEvent.objects.count()
    rehearsed = resolve(doubt, Verdict.did_not_happen(), reason="?", dry_run=True)
    assert rehearsed == Published(published=1, not_kept=1)
    with pytest.raises(NotSettled):
        allow_again(doubt, reason="?", dry_run=True)
    assert before == (IdempotencyRecord.objects.values().get(), IdempotencyEvent.objects.count())
    assert published == []
    assert resolve(doubt, Verdict.did_not_happen(), reason="?") == rehearsed
    with pytest.raises(NotInDoubt):
        resolve(doubt, Verdict.did_not_happen(), reason="?", dry_run=True)
    assert allow_again(doubt, reason="?", dry_run=True) == Published()
    assert the_record().generation == 1


def test_a_claim_that_ended_without_a_word_is_not_called_running():
    def body():
        IdempotencyRecord.objects.update(lease_expires_at=timezone.now())
        with pytest.raises(NotInDoubt, match=r"attempt 1 on \S+ ended without a word"):
            resolve(the_record().key_hash, Verdict.happened(), reason="?")

    marked = Leased(on_doubt=OnDoubt.HOLD, marks_effect=True)
    execute(body, key="key", scope="test", policy=marked)
    assert the_record().state == "succeeded"


def test_what_did_not_happen_runs_again(doubt):
    resolve(doubt, Verdict.did_not_happen(), reason="not seen there")
    assert once().replayed is False
    assert effects() == 1
    assert the_record().attempt == 2


def test_a_resolved_record_is_kept_as_long_as_its_job_said(doubt):
    resolve(doubt, Verdict.happened(), reason="seen")
    left = the_record().expires_at - timezone.now()
    assert timedelta(days=89) < left < timedelta(days=91)


def test_without_a_doubt_nothing_is_changed():
    with pytest.raises(NotInDoubt, match="no record"):
        resolve(uuid.uuid4(), Verdict.happened(), reason="?")
    once()
    with pytest.raises(NotInDoubt, match="succeeded"):
        resolve(the_record().key_hash, Verdict.did_not_happen(), reason="?")
    assert the_record().state == "succeeded"


@pytest.mark.parametrize("verdict", [Verdict.happened("done"), Verdict.did_not_happen()])
def test_what_failed_is_resolved_once_the_provider_knows_no_repeat(verdict):
    policy = Leased(on_doubt=OnDoubt.RETRY, provider_window=timedelta(hours=1))
    with pytest.raises(ZeroDivisionError):
        execute(lambda: 1 / 0, key="key", scope="test", policy=policy)
    key_hash = the_record().key_hash
    with pytest.raises(NotInDoubt, match="its record is failed"):
        resolve(key_hash, verdict, reason="?")
    assert the_record().state == "failed"
    IdempotencyRecord.objects.update(repeat_until=timezone.now())
    resolve(key_hash, verdict, reason="seen")
    again = execute(effect, key="key", scope="test", policy=policy)
    assert again.replayed is verdict.effect_happened
    assert again.result == ("done" if verdict.effect_happened else "effect")
    with pytest.raises(NotInDoubt, match="its record is succeeded"):
        resolve(key_hash, verdict, reason="?")


def test_a_live_lease_is_not_resolved_but_a_lapsed_one_is():
    gate = Gate()
    with gate.held(lambda: once(gate.pass_)):
        with pytest.raises(NotInDoubt, match="under a lease"):
            resolve(the_record().key_hash, Verdict.happened(), reason="?")
        IdempotencyRecord.objects.update(lease_expires_at=timezone.now())
        resolve(the_record().key_hash, Verdict.happened(), reason="seen")
        assert the_record().state == "succeeded"


def test_a_verdict_that_cannot_be_stored_changes_nothing(doubt):
    with pytest.raises(ResultNotStorable):
        resolve(doubt, Verdict.happened({1}), reason="seen")
    assert the_record().state == "in_doubt"


def test_parked_messages_are_published_and_forgotten(doubt, published):
    for task_id in ("a", "b", "a"):
        assert park("default", doubt, Reason.IN_DOUBT, task_id=task_id, message=task_id)
    done = resolve(doubt, Verdict.happened(), reason="seen")
    assert (done.published, done.waiting) == (2, 0)
    assert published == ["a", "b"]
    assert not ParkedMessage.objects.exists()


def test_a_message_whose_publishing_fails_is_kept(doubt, published, monkeypatch):
    park("default", doubt, Reason.IN_DOUBT, task_id="a", message="a")
    monkeypatch.setattr(parking, "broker", None)
    done = resolve(doubt, Verdict.happened(), reason="seen")
    assert (done.published, done.waiting) == (0, 1)
    monkeypatch.setattr(parking, "broker", SimpleNamespace(publish=published.append))
    assert publish_parked(doubt).published == 1
    assert published == ["a"]


def test_a_message_cannot_be_parked_once_the_doubt_is_resolved(doubt):
    resolve(doubt, Verdict.happened(), reason="seen")
    assert park("default", doubt, Reason.IN_DOUBT, task_id="a", message="a") is False
    assert not ParkedMessage.objects.exists()


def test_a_message_parked_while_the_doubt_is_being_resolved_is_not_forgotten(doubt):
    with transaction.atomic():  # somebody is resolving
        IdempotencyRecord.objects.in_doubt(doubt, None).resolve_as_happened(
            result=None, claim_id=uuid.uuid4()
        )
        with Thread(
            lambda: park("default", doubt, Reason.IN_DOUBT, task_id="a", message="a")
        ) as other:
            wait_until(waits_for_a_lock, "the parking to wait for the resolving")
            connection.connection.commit()
            assert other.result() is False


def test_the_sweeper_publishes_what_a_crash_left_behind(doubt, published, monkeypatch):
    park("default", doubt, Reason.IN_DOUBT, task_id="a", message="a")
    assert sweep().parked == Published()
    monkeypatch.setattr(parking, "broker", None)
    resolve(doubt, Verdict.happened(), reason="seen")
    assert sweep().parked == Published(waiting=1)
    monkeypatch.setattr(parking, "broker", SimpleNamespace(publish=published.append))
    assert sweep(dry_run=True) == Swept(0, 0, 0, Published(published=1))
    assert published == []
    assert sweep() == Swept(0, 0, 0, Published(published=1))
    assert published == ["a"]


# -- allow again ---------------------------------------------------------------------------------


def test_a_success_allowed_again_runs_again_under_a_new_provider_key():
    once(fingerprint="a")
    before = the_record()
    allow_again(before.key_hash, reason="lost in the post", by="ada")
    assert once(fingerprint="b").replayed is False
    after = the_record()
    assert effects() == 2
    assert (after.generation, after.attempt) == (2, 2)
    assert after.provider_key != before.provider_key
    event = IdempotencyEvent.objects.get(kind="allowed_again")
    assert event.note == "By ada: lost in the post"


def test_a_transactional_success_can_be_allowed_again_too():
    execute(effect, key="key", scope="test")
    allow_again(the_record().key_hash, reason="wrong rows")
    assert execute(effect, key="key", scope="test").replayed is False
    assert execute(effect, key="key", scope="test").replayed is True
    assert effects() == 2


def test_a_failure_allowed_again_forgets_its_arguments():
    policy = Leased(on_doubt=OnDoubt.HOLD, no_effect_errors=(ZeroDivisionError,))
    with pytest.raises(ZeroDivisionError):
        execute(lambda: 1 / 0, key="key", scope="test", policy=policy, fingerprint="a")
    allow_again(the_record().key_hash, reason="wrong amount")
    done = execute(effect, key="key", scope="test", policy=policy, fingerprint="b")
    assert done.replayed is False


def test_what_is_not_settled_is_not_allowed_again(doubt):
    with pytest.raises(NotSettled, match="in doubt"):
        allow_again(doubt, reason="?")
    with pytest.raises(NotSettled, match="no record"):
        allow_again(uuid.uuid4(), reason="?")
    resolve(doubt, Verdict.did_not_happen(), reason="not there")
    gate = Gate()
    with gate.held(lambda: once(gate.pass_)), pytest.raises(NotSettled, match="under a lease"):
        allow_again(doubt, reason="?")
    assert the_record().generation == 1
