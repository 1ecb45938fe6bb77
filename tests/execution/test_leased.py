"""The effect is tried by one holder at a time, and never repeated blindly."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import timedelta
from smtplib import SMTPException, SMTPServerDisconnected

import psycopg
import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import DataError, OperationalError, connection, transaction
from django.test import override_settings
from django.utils import timezone
from psycopg import connect

from idempotency import Leased, OnDoubt, Transactional, Verdict, current_attempt, execute
from idempotency.exceptions import (
    AlreadyRunning,
    EffectNotMarked,
    InDoubt,
    InsideTransaction,
    KeyReused,
    LeaseLost,
    ResultNotStorable,
)
from idempotency.keys import Key
from idempotency.maintenance import sweep
from idempotency.models import IdempotencyEvent, IdempotencyRecord, Reason
from idempotency.parking import park
from idempotency.resolution import resolve
from idempotency.storage.postgresql import PostgreSQL
from tests.execution.bodies import (
    Gate,
    Thread,
    effect,
    effects,
    kinds,
    the_record,
    waits_for_a_lock,
)
from tests.harness.processes import database_url
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

LEASE = timedelta(minutes=1)
HOLD = Leased(on_doubt=OnDoubt.HOLD, lease=LEASE)
MARKED = Leased(on_doubt=OnDoubt.HOLD, lease=LEASE, marks_effect=True)
REFUSALS = Leased(on_doubt=OnDoubt.HOLD, lease=LEASE, no_effect_errors=(KeyError,))


def once(body=effect, policy=HOLD, key="key", **options):
    return execute(body, key=key, scope="test", policy=policy, **options)


def fail(error=ValueError):
    raise error("unclear")


def let_the_lease_run_out():
    changed = IdempotencyRecord.objects.filter(state="running").update(
        lease_expires_at=timezone.now() - timedelta(seconds=1)
    )
    assert changed == 1


# -- the good path -------------------------------------------------------------------------------


def test_a_duplicate_is_answered_without_running_the_body():
    assert once(lambda: (effect(), 1)).result == ["effect", 1]
    again = once()
    assert (again.result, again.replayed) == (["effect", 1], True)
    assert effects() == 1
    assert kinds() == ["duplicate"]


def test_the_claim_is_committed_before_the_body_runs():
    def body():
        record = the_record()
        assert not connection.in_atomic_block
        assert record.state == "running"
        assert record.policy == "hold"
        assert record.effect_begun_at is not None
        assert record.lease_expires_at > timezone.now()

    once(body)
    record = the_record()
    assert (record.state, record.lease_expires_at) == ("succeeded", None)


def test_while_one_runs_the_other_is_refused_at_once():
    gate = Gate()
    with gate.held(lambda: once(gate.pass_)) as other:
        with pytest.raises(AlreadyRunning, match="lease runs out in"):
            once()
        gate.open()
        assert other.result().replayed is False
    assert effects() == 0


def test_a_result_that_cannot_be_stored_repeats_nothing(caplog):
    assert once(lambda: {effect()}).result == {"effect"}
    assert "cannot be replayed" in caplog.text
    assert once().result is None
    assert effects() == 1


def test_the_provider_key_is_the_same_for_every_attempt():
    seen = []

    def refused():
        seen.append(current_attempt().provider_key)
        raise KeyError

    for number in (1, 2):
        with pytest.raises(KeyError):
            once(refused, REFUSALS)
        assert the_record().attempt == number
    assert seen[0] == seen[1] == the_record().provider_key


# -- what raised ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, TimeoutError, SystemExit])
def test_an_error_after_the_effect_began_is_a_doubt(error):
    with pytest.raises(error):
        once(lambda: fail(error))
    assert the_record().state == "in_doubt"
    with pytest.raises(InDoubt, match="nothing runs until it is resolved"):
        once()
    assert effects() == 0
    assert kinds() == ["in_doubt"]


def test_a_refusal_says_that_there_was_no_effect():
    with pytest.raises(KeyError):
        once(lambda: fail(KeyError), REFUSALS)
    record = the_record()
    assert (record.state, record.effect_begun_at) == ("failed", None)
    assert once(policy=REFUSALS).replayed is False
    assert the_record().attempt == 2
    assert kinds() == ["failed", "taken_over"]


def test_an_error_before_the_marked_effect_is_no_doubt():
    with pytest.raises(ValueError, match="unclear"):
        once(fail, MARKED)
    assert the_record().state == "failed"


def test_an_error_after_the_marked_effect_is_a_doubt():
    def body():
        assert the_record().effect_begun_at is None
        current_attempt().effect_begins()
        assert the_record().effect_begun_at is not None
        fail()

    with pytest.raises(ValueError, match="unclear"):
        once(body, MARKED)
    assert the_record().state == "in_doubt"


def test_a_body_that_forgot_its_mark_is_told(caplog):
    assert once(policy=MARKED).result == "effect"
    assert "without effect_begins()" in caplog.text
    assert once(policy=MARKED).replayed is True


def test_a_failed_record_is_taken_over_with_the_same_arguments_only():
    with pytest.raises(KeyError):
        once(lambda: fail(KeyError), REFUSALS, fingerprint="a")
    with pytest.raises(KeyReused):
        once(policy=REFUSALS, fingerprint="b")
    assert once(policy=REFUSALS, fingerprint="a").replayed is False


def test_a_failure_is_forgotten_with_its_retention():
    with pytest.raises(KeyError):
        once(lambda: fail(KeyError), REFUSALS, fingerprint="a")
    IdempotencyRecord.objects.update(expires_at=timezone.now())
    assert once(policy=REFUSALS, fingerprint="b").replayed is False


def test_a_limit_after_the_body_returned_does_not_hide_what_happened(monkeypatch):
    succeed, struck = PostgreSQL.succeed, []

    def strike_once(storage, claim, *, result):
        if not struck:
            struck.append(True)
            raise SoftTimeLimitExceeded
        return succeed(storage, claim, result=result)

    monkeypatch.setattr(PostgreSQL, "succeed", strike_once)
    assert once().result == "effect"
    assert struck
    assert the_record().state == "succeeded"


@pytest.mark.parametrize("error", [None, TimeoutError])
@pytest.mark.parametrize("leave", ["BEGIN", "autocommit", "broken"])
def test_what_a_body_leaves_open_does_not_swallow_its_settlement(leave, error, caplog):
    def body():
        if leave == "autocommit":
            transaction.set_autocommit(False)
            effects()
        else:
            connection.ensure_connection()
            connection.connection.execute("BEGIN")
        if leave == "broken":
            with suppress(psycopg.Error):
                connection.connection.execute("SELECT 1/0")
        if error:
            raise error
        return "sent"

    if error:
        with pytest.raises(error):
            once(body)
    else:
        assert once(body).result == "sent"
    with connect(database_url(), autocommit=True) as observer:
        seen = observer.execute("SELECT state FROM idempotency_record").fetchone()
    assert seen == ("in_doubt" if error else "succeeded",)
    assert connection.get_autocommit()
    assert "left a transaction open" in caplog.text


@pytest.mark.parametrize("text", ["half \udcff a pair", "\0"])
def test_an_error_with_a_text_that_cannot_be_stored_is_noted(text):
    def body():
        raise ValueError(text)

    for policy in (HOLD, Transactional()):
        with pytest.raises(ValueError, match=re.escape(text)):
            once(body, policy, key=str(policy))
    states = IdempotencyRecord.objects.order_by("id").values_list("state", flat=True)
    assert list(states) == ["in_doubt", "failed"]


def test_an_error_that_cannot_tell_its_text_is_noted():
    class Mute(Exception):
        def __str__(self):
            raise IndexError

    with pytest.raises(Mute):
        once(lambda: fail_with(Mute()))
    assert the_record().state == "in_doubt"


def fail_with(error):
    raise error


def test_a_lock_timeout_does_not_keep_a_settlement_from_being_written():
    def body():
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '100ms'")
        holder.execute("BEGIN")
        holder.execute("SELECT 1 FROM idempotency_record FOR UPDATE")

        thread.submit(let_go)
        return "sent"

    def let_go():
        wait_until(waits_for_a_lock, "the settlement to wait")
        wait_until(lambda: not waits_for_a_lock(), "the settlement to time out")
        holder.execute("COMMIT")

    with ThreadPoolExecutor(1) as thread, connect(database_url(), autocommit=True) as holder:
        assert once(body).result == "sent"
    assert the_record().state == "succeeded"
    connection.close()


# -- a lease that ran out ------------------------------------------------------------------------


def test_a_claim_that_lapsed_after_its_effect_began_is_a_doubt():
    gate = Gate()
    with gate.held(lambda: once(gate.pass_)):
        let_the_lease_run_out()
        with pytest.raises(InDoubt):
            once()
        assert the_record().state == "in_doubt"
        assert kinds() == ["in_doubt"]


def test_a_lease_renewed_since_it_was_seen_is_no_doubt(monkeypatch):
    look, gate = PostgreSQL.lock_and_look, Gate()

    def renewed_after_the_look(storage, key, **options):
        result = look(storage, key, **options)
        monkeypatch.setattr(PostgreSQL, "lock_and_look", look)
        with connect(database_url(), autocommit=True) as holder:
            holder.execute(
                "UPDATE idempotency_record SET lease_expires_at = now() + interval '1 h'"
            )
        return result

    with gate.held(lambda: once(gate.pass_)):
        let_the_lease_run_out()
        monkeypatch.setattr(PostgreSQL, "lock_and_look", renewed_after_the_look)
        with pytest.raises(AlreadyRunning):
            once()
    assert the_record().state == "succeeded"


def test_a_claim_that_lapsed_before_its_effect_is_taken_over():
    gate = Gate()

    def slow():
        gate.pass_()
        current_attempt().effect_begins()
        effect("of the old holder")

    with gate.held(lambda: once(slow, MARKED)) as other:
        let_the_lease_run_out()
        assert once(policy=MARKED).replayed is False
        gate.open()
        assert isinstance(other.result(), LeaseLost)
    assert (effects(), effects("of the old holder")) == (1, 0)
    record = the_record()
    assert (record.state, record.attempt, record.result) == ("succeeded", 2, '"effect"')


SLOW_CLAIM = """
CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NEW; END $$;
CREATE TRIGGER slow_claim BEFORE INSERT ON idempotency_record FOR EACH ROW
    WHEN (current_setting('application_name') = 'slow') EXECUTE FUNCTION wait_for_test()
"""


def test_of_two_claims_that_no_lock_keeps_apart_the_slower_one_is_busy(no_locks):
    def slowly():
        with connection.cursor() as cursor:
            cursor.execute("SET application_name = 'slow'")
        return once()

    running = Gate()
    with connect(database_url(), autocommit=True) as holder:
        holder.execute(SLOW_CLAIM)
        try:
            holder.execute("SELECT pg_advisory_lock(4711)")
            with Thread(slowly) as slow:
                wait_until(waits_for_a_lock, "the claim to wait, which has seen no record")
                with running.held(lambda: once(running.pass_)):
                    holder.execute("SELECT pg_advisory_unlock(4711)")
                    assert isinstance(slow.result(), AlreadyRunning)
        finally:
            holder.execute("SELECT pg_advisory_unlock_all()")
            holder.execute("DROP FUNCTION wait_for_test CASCADE")
    assert effects() == 0


def test_a_failure_that_has_changed_since_it_was_seen_is_not_claimed(no_locks, monkeypatch):
    with pytest.raises(KeyError):
        once(lambda: fail(KeyError), REFUSALS)
    look, seen, running = PostgreSQL.lock_and_look, Gate(), Gate()

    def slow_look(storage, key, **options):
        result = look(storage, key, **options)
        if threading.current_thread() is not threading.main_thread():
            monkeypatch.setattr(PostgreSQL, "lock_and_look", look)
            seen.pass_()
        return result

    monkeypatch.setattr(PostgreSQL, "lock_and_look", slow_look)
    with (
        seen.held(lambda: once(policy=REFUSALS)) as slow,
        running.held(lambda: once(running.pass_, REFUSALS)),
    ):
        seen.open()
        assert isinstance(slow.result(), AlreadyRunning)
    assert effects() == 0


def test_a_stale_claim_settles_nothing_of_the_one_that_runs_now():
    first, second = Gate(), Gate()
    with first.held(lambda: once(first.pass_, MARKED)) as stale:
        let_the_lease_run_out()
        with second.held(lambda: once(lambda: [second.pass_(), effect()], MARKED)) as newer:
            first.open()
            assert isinstance(stale.result(), LeaseLost)
            assert the_record().state == "running"
            second.open()
            assert newer.result().result == [None, "effect"]
    assert effects() == 1


@pytest.mark.parametrize("policy", [HOLD, MARKED])
def test_an_error_after_the_lease_was_lost_says_nothing_about_the_job(policy):
    gate = Gate()

    def slow():
        gate.pass_()
        fail(TimeoutError)

    with gate.held(lambda: once(slow, policy)) as stale:
        let_the_lease_run_out()
        if policy is HOLD:
            with pytest.raises(InDoubt):
                once(policy=policy)
        else:
            assert once(policy=policy).replayed is False
        gate.open()
        lost = stale.result()
    assert isinstance(lost, LeaseLost)
    assert isinstance(lost.__cause__, TimeoutError)


def test_the_effect_cannot_begin_under_a_lease_that_ran_out():
    def body():
        let_the_lease_run_out()
        current_attempt().effect_begins()
        effect()

    with pytest.raises(LeaseLost) as lost:
        once(body, MARKED)
    assert "provider" not in str(lost.value)
    assert effects() == 0


def test_a_lapsed_claim_is_judged_by_the_policy_it_was_made_under():
    gate = Gate()
    with gate.held(lambda: once(gate.pass_, HOLD)) as other:
        let_the_lease_run_out()
        with pytest.raises(InDoubt):
            execute(effect, key="key", scope="test")  # transactional after a deploy
        gate.open()
        other.result()
    assert effects() == 0


def test_the_heartbeat_renews_the_lease_and_ends_with_the_body():
    short = Leased(on_doubt=OnDoubt.HOLD, lease=timedelta(seconds=1))

    def body():
        first = the_record().lease_expires_at
        wait_until(lambda: the_record().lease_expires_at > first, "a renewed lease")

    once(body, short)
    assert not [t for t in threading.enumerate() if t.name == "idempotency-heartbeat"]


def test_a_body_that_hangs_becomes_visible():
    hung = Leased(
        on_doubt=OnDoubt.HOLD, lease=timedelta(seconds=1), max_run=timedelta(microseconds=1)
    )

    def body():
        wait_until(lambda: the_record().lease_expires_at < timezone.now(), "the end of the lease")
        with pytest.raises(InDoubt):
            once()

    assert once(body, hung).result is None  # it was not dead, and says so


# -- settling ------------------------------------------------------------------------------------


def test_rows_of_the_settling_block_commit_with_the_settlement():
    def body():
        with current_attempt().settling(result={"sent": True}):
            effect()
            assert the_record().state == "running"
        assert the_record().state == "succeeded"
        raise ValueError("after the end")

    with pytest.raises(ValueError, match="after the end"):
        once(body)
    assert once().result == {"sent": True}
    assert effects() == 1


def test_a_failing_hook_of_the_settling_block_changes_nothing_about_it():
    def body():
        with suppress(ZeroDivisionError), current_attempt().settling(result="settled"):
            effect()
            transaction.on_commit(lambda: 1 / 0)
        return "other"

    assert once(body).result == "settled"
    assert once(body).result == "settled"
    assert effects() == 1


def test_the_heartbeat_does_not_disturb_a_settling_block_under_repeatable_read():
    short = Leased(on_doubt=OnDoubt.HOLD, lease=timedelta(seconds=1))

    def body():
        with connection.cursor() as cursor:
            cursor.execute(
                "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ"
            )
        with current_attempt().settling(result="settled"):
            effect()
            # It waits for the row, instead of changing it under the snapshot.
            wait_until(waits_for_a_lock, "the heartbeat to wait")

    assert once(body, short).result == "settled"
    connection.close()


def test_an_error_in_the_settling_block_takes_its_rows_with_it():
    def body():
        with current_attempt().settling():
            effect()
            fail()

    with pytest.raises(ValueError, match="unclear"):
        once(body)
    assert effects() == 0
    assert the_record().state == "in_doubt"


@contextmanager
def taken_for_dead(**ends):
    """A holder whose lease has run out in its body; its call and its gate."""
    gate = Gate()

    def slow():
        gate.pass_()
        with ends.get("settling", nullcontext)():
            effect()
        if "error" in ends:
            raise ends["error"]
        return "done"

    with gate.held(lambda: once(slow, REFUSALS)) as holder:
        let_the_lease_run_out()
        with pytest.raises(InDoubt):
            once()
        yield holder, gate


SETTLING = {"settling": lambda: current_attempt().settling("done")}


@pytest.mark.parametrize("ends", [{}, SETTLING])
def test_a_holder_that_comes_back_ends_the_doubt_about_itself(ends, published):
    with taken_for_dead(**ends) as (holder, gate):
        park("default", the_record().key_hash, Reason.IN_DOUBT, task_id="a", message="a")
        gate.open()
        assert holder.result().result == "done"
    assert (effects(), the_record().state, once().result) == (1, "succeeded", "done")
    assert IdempotencyEvent.objects.get(kind="resolved").note == "Its own attempt has come back."
    assert published == ["a"]


def test_a_holder_that_comes_back_without_an_effect_ends_the_doubt_about_itself(published):
    with taken_for_dead(error=KeyError("refused")) as (holder, gate):
        park("default", the_record().key_hash, Reason.IN_DOUBT, task_id="a", message="a")
        gate.open()
        assert isinstance(holder.result(), KeyError)
    assert the_record().state == "failed"
    assert published == ["a"]


def test_a_holder_that_comes_back_knowing_nothing_leaves_the_doubt():
    with taken_for_dead(error=TimeoutError()) as (holder, gate):
        gate.open()
        assert isinstance(holder.result(), LeaseLost)
    assert the_record().state == "in_doubt"


@pytest.mark.parametrize(
    ("verdict", "state"),
    [(Verdict.did_not_happen(), "failed"), (Verdict.happened("said"), "succeeded")],
)
@pytest.mark.parametrize(("ends", "rows"), [({}, 1), (SETTLING, 0)])
def test_a_holder_whose_doubt_was_resolved_settles_nothing(ends, rows, verdict, state):
    with taken_for_dead(**ends) as (holder, gate):
        resolve(the_record().key_hash, verdict, reason="looked there")
        gate.open()
        assert isinstance(holder.result(), LeaseLost)
    assert (effects(), the_record().state) == (rows, state)
    if state == "succeeded":
        assert once().result == "said"


def test_a_settlement_that_stores_no_result_returns_it():
    def body():
        with current_attempt().settling(result="settled"):
            effect()

    assert once(body, store_result=False).result == "settled"
    assert once(body, store_result=False).result is None


class Unreadable:
    def model_dump(self, mode):
        raise RuntimeError


@pytest.mark.parametrize("on_doubt", [OnDoubt.HOLD, OnDoubt.RETRY])
def test_an_effect_whose_result_cannot_be_encoded_is_settled(on_doubt, caplog):
    def body():
        effect()
        return Unreadable()

    window = {"provider_window": None} if on_doubt is OnDoubt.RETRY else {}
    policy = Leased(on_doubt=on_doubt, lease=LEASE, **window)
    assert isinstance(once(body, policy).result, Unreadable)
    assert "is not stored, and cannot be replayed" in caplog.text
    assert (the_record().state, once(body, policy).replayed, effects()) == ("succeeded", True, 1)


def test_a_settlement_that_cannot_be_stored_does_not_begin():
    def body():
        with current_attempt().settling(result={1}):
            effect()

    with pytest.raises(ResultNotStorable, match=r"a sorted list\.$") as refused:
        once(body)  # nothing is said of a rollback
    assert refused.value.key == the_record().key_hash.hex
    assert effects() == 0


# -- where it is refused -------------------------------------------------------------------------


def test_inside_a_transaction_it_is_refused():
    with transaction.atomic(), pytest.raises(InsideTransaction):
        once()
    with pytest.raises(InsideTransaction):
        execute(once, key="outer", scope="test")
    assert effects() == 0


def test_marks_and_settlements_inside_the_body_s_own_transaction_are_refused():
    def mark():
        with transaction.atomic():
            current_attempt().effect_begins()

    def settle():
        with transaction.atomic(), current_attempt().settling():
            effect()

    for body in (mark, settle):
        with pytest.raises(InsideTransaction):
            once(body, MARKED)
    assert effects() == 0


def test_a_mark_that_the_policy_does_not_know_is_refused():
    with pytest.raises(EffectNotMarked, match="marks_effect=True"):
        once(lambda: current_attempt().effect_begins())


def test_anything_runs_inside_a_leased_attempt():
    def body():
        inner = execute(effect, key="inner", scope="test").result
        return inner, once(effect, key="other").result

    assert once(body).result == ["effect", "effect"]
    assert effects() == 2


def test_a_lease_that_a_nested_call_lost_is_the_outer_one_s_error():
    def inner():
        IdempotencyRecord.objects.filter(scope="test").latest("id").delete()
        return "lost"

    with pytest.raises(LeaseLost):
        once(lambda: once(inner, key="inner"))
    assert the_record().state == "in_doubt"


def test_a_leased_call_inside_itself_is_busy():
    with pytest.raises(AlreadyRunning):
        once(once)


# -- the lock with a transactional attempt --------------------------------------------------------


def test_while_a_transaction_runs_the_key_cannot_be_claimed():
    gate = Gate()
    with (
        gate.held(lambda: execute(gate.pass_, key="key", scope="test")),
        pytest.raises(AlreadyRunning),
    ):
        once()
    assert effects() == 0


def test_an_attempt_settles_once():
    def body():
        with current_attempt().settling("first"):
            effect("first")
        with pytest.raises(LeaseLost), current_attempt().settling("second"):
            effect("second")
        return "returned"

    assert [once(body).result, once(body).result] == ["first", "first"]
    assert (effects("first"), effects("second")) == (1, 0)


def test_a_mark_that_is_being_committed_is_a_sign_of_life(monkeypatch):
    """Who has seen the lease run out waits for its row, and has to look again."""
    policy = replace(MARKED, max_run=timedelta(milliseconds=1))  # no heartbeat
    gate, sending, begin = Gate(), Gate(), PostgreSQL.begin_effect

    def body():
        current_attempt().effect_begins()
        sending.pass_()
        return effect()

    def let_it_run_out_soon():
        soon = timezone.now() + timedelta(seconds=2)
        IdempotencyRecord.objects.update(lease_expires_at=soon)

    def begin_late(*args, **options):
        with Thread(let_it_run_out_soon) as shortened:
            shortened.result()
        begun = begin(*args, **options)
        gate.pass_()
        return begun

    monkeypatch.setattr(PostgreSQL, "begin_effect", begin_late)
    with gate.held(lambda: once(body, policy)) as marking:
        wait_until(IdempotencyRecord.objects.lapsed().exists, "the lease to run out")
        with Thread(lambda: once(body, policy)) as other:
            wait_until(waits_for_a_lock, "another delivery to take over")
            gate.open()
            assert isinstance(other.result(), AlreadyRunning | InDoubt)
        sending.open()
        assert marking.result().result == "effect"
    assert effects() == 1


@pytest.mark.parametrize("end", ["a mark", "a doubt"])
def test_what_may_have_begun_just_now_has_a_whole_lease(end):
    def body():
        soon = timezone.now() + timedelta(seconds=1)
        IdempotencyRecord.objects.update(lease_expires_at=soon)
        if end == "a mark":
            current_attempt().effect_begins()
            raise SystemExit  # nothing is settled
        fail()

    with pytest.raises((ValueError, SystemExit)):
        once(body, MARKED if end == "a mark" else HOLD)
    assert the_record().lease_expires_at > timezone.now() + LEASE / 2


def test_a_claim_whose_reply_was_lost_is_not_its_own_once_somebody_has_spoken(monkeypatch):
    claim = PostgreSQL.claim

    def lose(storage, *args, **options):
        monkeypatch.undo()
        claim(storage, *args, **options)
        let_the_lease_run_out()
        sweep()
        resolve(the_record().key_hash, Verdict.did_not_happen(), reason="asked")
        raise OperationalError

    monkeypatch.setattr(PostgreSQL, "claim", lose)
    assert once().result == "effect"
    assert (the_record().state, the_record().attempt) == ("succeeded", 2)
    assert once().replayed
    assert effects() == 1


def test_a_repeat_begins_no_effect_that_the_provider_does_not_know_any_more():
    policy = Leased(
        on_doubt=OnDoubt.RETRY, provider_window=timedelta(hours=1), marks_effect=True, lease=LEASE
    )

    def body():
        if effects():
            closed = timezone.now() - timedelta(seconds=1)
            IdempotencyRecord.objects.update(repeat_until=closed)
        current_attempt().effect_begins()
        effect()
        fail()

    with pytest.raises(ValueError, match="unclear"):
        once(body, policy)
    with pytest.raises(LeaseLost, match="provider"):
        once(body, policy)
    assert effects() == 1
    let_the_lease_run_out()
    with pytest.raises(InDoubt):
        once(body, policy)


NOTE_CLAIMS = """
CREATE FUNCTION note_for_test() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN
        INSERT INTO jobs_effect (key, note, pid, created_at)
        VALUES ('claim', current_setting('synchronous_commit'), 1, now());
        RETURN NEW;
    END $$;
CREATE TRIGGER note_claim BEFORE INSERT OR UPDATE ON idempotency_record FOR EACH ROW
    WHEN (NEW.state = 'running') EXECUTE FUNCTION note_for_test()
"""


def test_claims_are_flushed_whatever_the_session_says():
    """The first one, and one that takes over."""
    with connection.cursor() as cursor:
        cursor.execute(NOTE_CLAIMS)
        try:
            cursor.execute("SET synchronous_commit = off")
            with pytest.raises(KeyError):
                once(lambda: fail(KeyError), REFUSALS)
            once(policy=REFUSALS)
            cursor.execute("SHOW synchronous_commit")
            assert cursor.fetchone() == ("off",)
        finally:
            cursor.execute("RESET synchronous_commit; DROP FUNCTION note_for_test CASCADE")
    assert effects("on") == 2


def test_in_the_middle_of_a_rotation_a_claim_sees_the_other_deploy_s(monkeypatch):
    """Under REPEATABLE READ its snapshot would be older than the lock."""
    gate, numbers = 4711, Key.lock_numbers

    def waits_first(key):
        # The statement has its snapshot before it comes to this, and to the locks behind it.
        wait, *rest = numbers.__get__(key)
        return (f"{wait}) AND (SELECT pg_advisory_lock_shared({gate}) IS NOT NULL", *rest)

    def new_deploy():
        with connection.cursor() as cursor:
            cursor.execute(
                "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ"
            )
        return once()

    with connect(database_url(), autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [gate])
        with override_settings(IDEMPOTENCY={"KEY_SECRETS": ["new", "old"]}):
            monkeypatch.setattr(Key, "lock_numbers", property(waits_first))
            with Thread(new_deploy) as other:
                wait_until(waits_for_a_lock, "the claim to wait, its snapshot taken")
                monkeypatch.undo()
                with override_settings(IDEMPOTENCY={"KEY_SECRETS": ["old"]}):
                    assert once().replayed is False
                holder.execute("SELECT pg_advisory_unlock_all()")
                assert other.result().replayed is True
    assert effects() == 1
    assert the_record().state == "succeeded"  # and no claim beside it


@pytest.mark.django_db(transaction=False)
def test_inside_django_s_test_case_it_works_without_a_commit():
    def body():
        current_attempt().effect_begins()
        with current_attempt().settling(result=7):
            effect()

    with override_settings(IDEMPOTENCY={"LEASE": timedelta(minutes=1)}):
        assert once(body, MARKED).result == 7
        assert once(body, MARKED).replayed is True
        with pytest.raises(ValueError, match="unclear"):
            once(fail, key="other")
        with pytest.raises(InDoubt):
            once(key="other")
    assert effects() == 1


# -- declarations --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [Exception, OSError, SMTPException, SMTPServerDisconnected, TimeoutError]
)
def test_errors_that_prove_nothing_cannot_be_declared(error):
    with pytest.raises(TypeError, match="may come after the effect"):
        Leased(on_doubt=OnDoubt.HOLD, no_effect_errors=(error,))


def test_a_doubt_must_have_been_thought_of():
    with pytest.raises(TypeError, match="on_doubt"):
        Leased()
    with pytest.raises(TypeError, match=r"OnDoubt\.HOLD"):
        Leased(on_doubt="hold")


@pytest.mark.parametrize("lease", [timedelta(0), 60, "10m"])
def test_a_lease_is_a_positive_timedelta(lease):
    with pytest.raises(ValueError, match="positive timedelta"):
        Leased(on_doubt=OnDoubt.HOLD, lease=lease)


@pytest.mark.django_db(transaction=False)
def test_inside_django_s_test_case_what_was_marked_or_settled_outlasts_an_error_of_the_body():
    def marked():
        current_attempt().effect_begins()
        connection.cursor().execute("SELECT 1 / 0")

    def settled():
        with current_attempt().settling(result="settled"):
            effect()
        connection.cursor().execute("SELECT 1 / 0")

    for body, state in ((marked, "in_doubt"), (settled, "succeeded")):
        with pytest.raises(DataError):
            once(body, MARKED, key=state)
        assert IdempotencyRecord.objects.order_by("id").last().state == state
    assert once(key="succeeded").result == "settled"
    assert effects() == 1
