"""What the admin, the commands and the sweeper call to settle a record: guarded in itself."""

import io
import json
import os
from contextlib import ExitStack
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from idempotency import Leased, OnDoubt, Transactional, Verdict, current_attempt, execute
from idempotency.attempts import Delivery
from idempotency.calls import Call
from idempotency.conf import conf
from idempotency.digests import digest
from idempotency.exceptions import (
    AlreadyRunning,
    ClaimAlive,
    InDoubt,
    InsideTransaction,
    LeaseLost,
    NotInDoubt,
    NotRunning,
    NotSettled,
)
from idempotency.execution import run
from idempotency.maintenance import purge_chosen, sweep
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage, Reason
from idempotency.parking import Published, park, publish_parked
from idempotency.resolution import Released, allow_again, release, resolve
from tests.execution.bodies import Gate, Thread, waits_for_a_lock
from tests.execution.conftest import published as published
from tests.harness.waiting import wait_until
from tests.jobs.models import Effect

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "sqlite"])

HOLD = Leased(on_doubt=OnDoubt.HOLD)
MARKED = Leased(on_doubt=OnDoubt.HOLD, marks_effect=True)
RETRY = Leased(on_doubt=OnDoubt.RETRY, provider_window=timedelta(hours=1))


@pytest.fixture(params=["default", "sqlite"], ids=["postgresql", "sqlite"])
def using(request, settings):
    """The alias under test: that of the setting."""
    settings.IDEMPOTENCY = {"DATABASE": request.param}
    return request.param


@pytest.fixture
def on_postgresql(settings):
    settings.IDEMPOTENCY = {"DATABASE": "default"}


def records():
    return IdempotencyRecord.objects.using(conf().DATABASE)


def effect(note="effect"):
    Effect.objects.using(conf().DATABASE).create(key="key", note=note, pid=os.getpid())


def effects():
    return Effect.objects.using(conf().DATABASE).count()


def once(body=effect, policy=HOLD):
    return execute(body, key="key", scope="test", policy=policy)


def kinds():
    return list(
        IdempotencyEvent.objects.using(conf().DATABASE)
        .order_by("id")
        .values_list("kind", flat=True)
    )


def let_the_lease_run_out():
    past = timezone.now() - timedelta(seconds=1)
    records().filter(state="running").update(lease_expires_at=past)


def forget():
    records().update(expires_at=timezone.now() - timedelta(hours=1))


def left_running(policy=HOLD, *, lapsed=True, meanwhile=None):
    """What became of an attempt during which somebody does something."""
    failures = []

    def body():
        effect()
        if lapsed:
            let_the_lease_run_out()
        try:
            meanwhile(records().get().key_hash)
        except BaseException as failure:
            failures.append(failure)
            raise

    try:
        once(body, policy=policy)
    finally:
        for failure in failures:  # else the lost lease would hide it
            raise failure


# -- release -------------------------------------------------------------------------------------


def test_a_dead_claim_whose_effect_had_begun_is_in_doubt_and_settles_nothing(using):
    def meanwhile(key_hash):
        assert release(key_hash, reason="its host is gone", by="ada") == Released(state="in_doubt")
        with pytest.raises(InDoubt):
            once()

    with pytest.raises(LeaseLost):
        left_running(meanwhile=meanwhile)
    record = records().get()
    assert (record.state, record.deaths, effects()) == ("in_doubt", 1, 1)
    assert kinds() == ["released", "in_doubt", "lease_lost"]
    event = IdempotencyEvent.objects.using(using).get(kind="released")
    assert event.note == "By ada: its host is gone"


def test_a_dead_claim_whose_effect_had_not_begun_runs_again(using):
    def meanwhile(key_hash):
        assert release(key_hash, reason="gone") == Released()
        assert once().replayed is False
        with pytest.raises(LeaseLost):
            current_attempt().effect_begins()

    with pytest.raises(LeaseLost):
        left_running(MARKED, meanwhile=meanwhile)
    record = records().get()
    assert (record.state, record.attempt) == ("succeeded", 2)


def test_a_dead_claim_that_may_be_repeated_runs_again_with_its_provider_key(using):
    keys = []

    def meanwhile(key_hash):
        keys.append(current_attempt().provider_key)
        assert release(key_hash, reason="gone").state == "failed"
        once(lambda: keys.append(current_attempt().provider_key), policy=RETRY)

    with pytest.raises(LeaseLost):
        left_running(RETRY, meanwhile=meanwhile)
    assert keys[0] == keys[1]


def test_a_window_that_has_ended_makes_a_doubt_of_what_might_have_been_repeated(using):
    def meanwhile(key_hash):
        records().update(repeat_until=timezone.now() - timedelta(seconds=1))
        assert release(key_hash, reason="gone").state == "in_doubt"

    with pytest.raises(LeaseLost):
        left_running(RETRY, meanwhile=meanwhile)


def test_a_live_lease_is_released_only_by_force(using):
    def meanwhile(key_hash):
        with pytest.raises(ClaimAlive, match="under a lease"):
            release(key_hash, reason="?")
        assert records().get().state == "running"
        assert release(key_hash, reason="killed by hand", force=True).state == "in_doubt"

    with pytest.raises(LeaseLost):
        left_running(lapsed=False, meanwhile=meanwhile)


def test_no_later_claim_is_released(using):
    def meanwhile(key_hash):
        mine = records().get().claim_id
        release(key_hash, reason="gone")

        def second():
            let_the_lease_run_out()
            with pytest.raises(NotRunning, match="Nothing was changed"):
                release(key_hash, reason="gone", claim_id=mine, force=True)

        once(second, policy=MARKED)

    with pytest.raises(LeaseLost):
        left_running(MARKED, meanwhile=meanwhile)
    assert records().get().state == "succeeded"


def test_what_does_not_run_is_not_released(using):
    once()
    with pytest.raises(NotRunning, match="its record is succeeded"):
        release(records().get().key_hash, reason="?", force=True)
    assert kinds() == []


def test_a_released_record_is_kept_as_long_as_its_job_said(using):
    def meanwhile(key_hash):
        kept = records().get().expires_at
        release(key_hash, reason="gone")
        assert abs(records().get().expires_at - kept) < timedelta(minutes=1)

    with pytest.raises(LeaseLost):
        left_running(MARKED, meanwhile=meanwhile)


def test_a_rehearsed_release_changes_nothing(using, published):
    def meanwhile(key_hash):
        before = records().values().get()
        assert release(key_hash, reason="?", dry_run=True) == Released(state="in_doubt")
        assert before == records().values().get()

    left_running(meanwhile=meanwhile)
    assert kinds() == []


def gave_up(key_hash, task_id):
    ParkedMessage.objects.using(conf().DATABASE).create(
        key_hash=key_hash, task_id=task_id, reason=Reason.GAVE_UP, message=task_id
    )


def test_what_waits_for_a_dead_claim_is_published_unless_there_is_a_doubt(using, published):
    def meanwhile(key_hash):
        gave_up(key_hash, "a")
        assert release(key_hash, reason="gone", dry_run=True).published == 1
        assert published == []
        assert release(key_hash, reason="gone").published == len(published)

    with pytest.raises(LeaseLost):
        left_running(MARKED, meanwhile=meanwhile)
    assert published == ["a"]
    records().all().delete()
    with pytest.raises(LeaseLost):
        left_running(HOLD, meanwhile=meanwhile_in_doubt)
    assert published == ["a"]


def meanwhile_in_doubt(key_hash):
    gave_up(key_hash, "b")
    assert release(key_hash, reason="gone") == Released(state="in_doubt")


class Redelivered(Delivery):
    repeated = redelivered = True


def test_a_transactional_body_that_runs_is_alive_though_its_note_has_no_lease(on_postgresql):
    """It holds the lock of its key, and not a lease."""
    gate = Gate()

    def body():
        gate.pass_()
        effect()

    key = digest("key", scope="test", secrets=())
    call = Call(function=body, key=key, policy=Transactional(), delivery=Redelivered())
    with gate.held(lambda: run(call)):
        let_the_lease_run_out()
        with pytest.raises(ClaimAlive, match="holds the key at this moment"):
            release(records().get().key_hash, reason="?")
    assert records().get().state == "succeeded"
    assert effects() == 1


def test_an_effect_that_begins_while_its_claim_is_released_is_not_repeated(on_postgresql):
    """The release has looked, and waits for the mark to be committed."""

    def body():
        key_hash = records().get().key_hash
        with ExitStack() as until_committed, transaction.atomic():
            records().update(effect_begun_at=timezone.now())
            other = until_committed.enter_context(
                Thread(lambda: release(key_hash, reason="?", force=True))
            )
            wait_until(waits_for_a_lock, "the release to wait")
        assert isinstance(other.result(), ClaimAlive)

    once(body, policy=MARKED)
    assert records().get().state == "succeeded"


def test_a_transaction_of_somebody_else_is_left_as_it_is(using):
    with pytest.raises(TimeoutError):
        once(raise_timeout)
    with transaction.atomic(using=using):
        effect()
        for settle in (lambda: release(records().get().key_hash, reason="?"), sweep):
            with pytest.raises(InsideTransaction):
                settle()
    assert effects() == 1


# -- allow again ---------------------------------------------------------------------------------


def test_nothing_later_is_allowed_again(using):
    once()
    seen = records().get()
    key_hash = records().get().key_hash
    allow_again(key_hash, reason="once more", seen=seen)
    with pytest.raises(NotSettled, match="its record is failed"):
        allow_again(key_hash, reason="once more", seen=seen)
    once()
    with pytest.raises(NotSettled):
        allow_again(key_hash, reason="once more", seen=seen)
    record = records().get()
    assert (record.state, record.generation, effects()) == ("succeeded", 2, 2)


def test_another_run_under_the_key_of_a_purged_record_is_not_allowed_again(using):
    execute(lambda: None, key="key", scope="test")
    seen = records().get()
    records().all().delete()
    execute(lambda: None, key="key", scope="test")
    key_hash = records().get().key_hash
    with pytest.raises(NotSettled):
        allow_again(key_hash, reason="once more", seen=seen)


# -- publishing later ----------------------------------------------------------------------------


def test_what_is_not_published_now_is_published_by_the_sweeper(using, published):
    with pytest.raises(TimeoutError):
        once(raise_timeout)
    key_hash = records().get().key_hash
    park(using, key_hash, Reason.IN_DOUBT, task_id="a", message="a")
    done = resolve(key_hash, Verdict.did_not_happen(), reason="seen", publish=False)
    assert done == Published()
    assert published == []
    assert sweep().parked.published == 1
    assert published == ["a"]
    with pytest.raises(NotInDoubt):
        resolve(key_hash, Verdict.happened(), reason="seen")
    assert publish_parked(key_hash) == Published()


def raise_timeout():
    raise TimeoutError


# -- purge ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 1000])
def test_of_the_chosen_records_the_forgotten_ones_are_deleted(using, settings, batch):
    settings.IDEMPOTENCY |= {"PURGE_BATCH": batch}
    for number in range(3):
        execute(lambda: None, key=number, scope="old")
    with pytest.raises(TimeoutError):
        once(raise_timeout)
    forget()
    execute(lambda: None, key=7, scope="new")
    chosen = [record.pk for record in records().exclude(pk=records().earliest("pk").pk)]
    deleted = purge_chosen(chosen, reason="too big", by="ada")
    assert sorted(record.scope for record in deleted) == ["old", "old"]
    assert sorted(records().values_list("scope", flat=True)) == ["new", "old", "test"]
    notes = IdempotencyEvent.objects.using(using).filter(kind="purged").values_list("note")
    assert list(notes) == [("By ada: too big",)] * 2


# -- the command ---------------------------------------------------------------------------------


def command(*arguments):
    output = io.StringIO()
    call_command("idempotency_release", "key", "--scope", "test", *arguments, stdout=output)
    return output.getvalue()


def test_the_command_says_what_became_of_the_record(using):
    reason = ("--reason", "its host is gone")

    def meanwhile(key_hash):
        with pytest.raises(CommandError, match="Wait until it has ended, or force it"):
            command(*reason)
        rehearsed = command(*reason, "--force", "--dry-run")
        assert "Would release it: it would be in doubt" in rehearsed
        said = json.loads(command(*reason, "--force", "--dry-run", "--json"))
        assert (said["state"], said["dry_run"]) == ("in_doubt", True)
        assert "it is in doubt now" in command(*reason, "--force")

    with pytest.raises(LeaseLost):
        left_running(lapsed=False, meanwhile=meanwhile)
    with pytest.raises(CommandError, match="is not running under this claim"):
        command(*reason)


def test_the_command_says_that_the_next_delivery_runs(using):
    def meanwhile(key_hash):
        assert "the next delivery runs" in command("--reason", "its host is gone")

    with pytest.raises(LeaseLost):
        left_running(MARKED, meanwhile=meanwhile)
    assert once().replayed is False


def test_a_claim_under_which_somebody_runs_is_busy_until_it_is_released(using):
    def meanwhile(key_hash):
        with pytest.raises(AlreadyRunning):
            once()

    left_running(lapsed=False, meanwhile=meanwhile)
