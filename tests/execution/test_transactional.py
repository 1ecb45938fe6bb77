"""Effect and record are committed together, or neither is."""

import itertools
from contextlib import ExitStack, suppress
from datetime import timedelta

import psycopg
import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test import override_settings
from django.utils import timezone

from idempotency import current_attempt, execute
from idempotency.exceptions import (
    AlreadyRunning,
    BodyCommitted,
    EffectNotMarked,
    InsideTransaction,
    KeyNested,
    KeyReused,
    ManualCommit,
    NoAttempt,
    NotCommitted,
    ResultNotStorable,
    TransactionLost,
)
from idempotency.models import IdempotencyRecord
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
from tests.jobs.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)


def once(body=effect, key="key", scope="test", **options):
    return execute(body, key=key, scope=scope, **options)


# -- success and replay --------------------------------------------------------------------------


def test_a_duplicate_is_answered_without_running_the_body():
    first, second = once(), once()
    assert (first.result, first.replayed) == ("effect", False)
    assert (second.result, second.replayed) == ("effect", True)
    assert effects() == 1
    assert kinds() == ["duplicate"]


def test_the_first_caller_gets_what_every_replay_gets():
    assert once(lambda: (1, 2)).result == once(lambda: (1, 2)).result == [1, 2]


def test_a_first_success_has_one_row_and_no_event():
    once()
    record = the_record()
    assert record.state == "succeeded"
    assert record.attempt == 1
    assert record.claim_id is record.policy is record.owner is record.claimed_at is None
    assert kinds() == []


def test_the_key_is_kept_as_a_hash_only_unless_asked_for():
    once(key="secret")
    assert the_record().key is None
    IdempotencyRecord.objects.all().delete()
    with override_settings(IDEMPOTENCY={"STORE_KEY": True}):
        once(key="public")
    assert "public" in the_record().key


def test_without_a_stored_result_a_replay_returns_none():
    assert once(store_result=False).result == "effect"
    assert once(store_result=False).result is None
    assert effects() == 1


def test_an_expired_record_is_forgotten():
    once()
    IdempotencyRecord.objects.update(expires_at=timezone.now())
    assert once().replayed is False
    assert effects() == 2
    assert the_record().attempt == 2


def test_the_attempt_knows_itself():
    def body():
        attempt = current_attempt()
        return [attempt.number, attempt.key_hash, attempt.provider_key]

    number, key_hash, provider_key = once(body).result
    assert number == 1
    assert key_hash == the_record().key_hash.hex
    assert provider_key.version == 5
    with pytest.raises(NoAttempt):
        current_attempt()


def test_what_is_for_leased_attempts_is_refused():
    for use in (
        lambda: current_attempt().effect_begins(),
        lambda: current_attempt().settling().__enter__(),
    ):
        with pytest.raises(EffectNotMarked, match="Transactional"):
            once(use)


# -- failure -------------------------------------------------------------------------------------


def test_a_failing_body_leaves_its_note_and_nothing_else():
    def body():
        effect()
        raise ValueError("no luck")

    for attempt in (1, 2):
        with pytest.raises(ValueError, match="no luck"):
            once(body)
        assert the_record().attempt == attempt
    assert effects() == 0
    record = the_record()
    assert (record.state, record.error_class) == ("failed", "builtins.ValueError")
    assert record.error_message == "no luck"
    assert kinds() == ["failed", "failed"]
    assert once().replayed is False
    record.refresh_from_db()
    assert (record.state, record.attempt, record.error_class) == ("succeeded", 3, None)
    assert effects() == 1


def test_the_body_s_own_integrity_error_is_no_duplicate():
    def body():
        Effect.objects.create(pk=1, key="a", note="", pid=1)
        Effect.objects.create(pk=1, key="a", note="", pid=1)

    with pytest.raises(IntegrityError):
        once(body)
    assert the_record().state == "failed"


def test_the_body_s_own_constraint_that_fails_at_commit_is_no_duplicate():
    def body():
        effect()
        effect()

    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE jobs_effect ADD CONSTRAINT once UNIQUE (key) DEFERRABLE INITIALLY DEFERRED"
        )
    try:
        with pytest.raises(IntegrityError, match="once"):
            once(body)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE jobs_effect DROP CONSTRAINT once")
    assert effects() == 0
    assert the_record().state == "failed"


def test_a_result_that_cannot_be_stored_rolls_back():
    with pytest.raises(ResultNotStorable):
        once(lambda: [effect(), {1, 2}])
    assert effects() == 0
    assert the_record().state == "failed"


def test_a_shutdown_in_the_body_rolls_back_and_is_no_failure():
    def body():
        effect()
        raise SystemExit

    with pytest.raises(SystemExit):
        once(body)
    assert effects() == 0
    assert not IdempotencyRecord.objects.exists()
    assert not connection.in_atomic_block


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "25P03", "25P04", "57P01"])
def test_a_lost_transaction_is_tried_again_and_is_no_failure(sqlstate):
    tries = itertools.count(1)

    def body():
        effect()
        if next(tries) < 3:
            raise_in_database(sqlstate)

    assert once(body).replayed is False
    assert effects() == 1
    assert kinds() == []


def test_a_lock_that_was_not_to_be_had_is_no_failure():
    with pytest.raises(DatabaseError):
        once(lambda: raise_in_database("55P03"))
    assert not IdempotencyRecord.objects.exists()


def test_a_transaction_lost_too_often_says_so_and_is_no_failure():
    with pytest.raises(TransactionLost, match="3 times"):
        once(lambda: raise_in_database("40P01"))
    assert not IdempotencyRecord.objects.exists()


def raise_in_database(sqlstate):
    with connection.cursor() as cursor:
        cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{sqlstate}'; END $$")


@override_settings(USE_TZ=False)
def test_without_time_zones_the_hour_that_comes_twice_is_none():
    """In New York, 1:30 on 7 November 2027 is two instants."""
    with suppress(ZeroDivisionError):
        once(lambda: 1 / 0)
    connection.close()
    with override_settings(TIME_ZONE="America/New_York"), connection.cursor() as cursor:
        cursor.execute("SET timezone = 'America/New_York'")
        cursor.execute("UPDATE idempotency_record SET expires_at = '2027-11-07 05:30Z'")
        assert once().replayed is False
    connection.close()


# -- the same key, other arguments ---------------------------------------------------------------


def test_a_key_used_with_other_arguments_is_refused():
    once(fingerprint="a")
    with pytest.raises(KeyReused, match="other arguments"):
        once(fingerprint="b")
    assert once(fingerprint=None).replayed is True
    assert effects() == 1


def test_a_failure_that_was_rolled_back_protects_nothing():
    with pytest.raises(ZeroDivisionError):
        once(lambda: 1 / 0, fingerprint="a")
    assert once(fingerprint="b").replayed is False
    with pytest.raises(KeyReused):
        once(fingerprint="a")


# -- bodies that end, break or leave the transaction ----------------------------------------------


def commit():
    connection.connection.execute("COMMIT")


def commit_and_go_on():
    commit()
    effect("afterwards")


def switch_autocommit():
    connection.connection.commit()
    connection.connection.autocommit = True


@pytest.mark.parametrize("ending", [commit, commit_and_go_on, switch_autocommit])
def test_a_body_that_commits_by_itself_is_no_success(ending):
    def body():
        effect()
        ending()

    with pytest.raises(BodyCommitted):
        once(body)
    assert effects("afterwards") == 0
    assert not IdempotencyRecord.objects.filter(state="succeeded").exists()
    assert_clean()


def close():
    connection.close()


def mark_for_rollback():
    transaction.set_rollback(True)


def swallow_a_database_error():
    with suppress(DatabaseError):
        raise_in_database("22012")


def swallow_and_go_on_elsewhere():
    with connection.connection.cursor() as cursor, suppress(psycopg.Error):
        cursor.execute("SELECT 1/0")  # behind Django's back, so that it marks no rollback


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (close, "closed the database connection"),
        (mark_for_rollback, "marked for rollback"),
        (swallow_a_database_error, "was swallowed"),
        (swallow_and_go_on_elsewhere, "was swallowed"),
    ],
)
def test_a_body_that_cannot_be_committed_is_no_success(ending, words):
    def body():
        effect()
        ending()

    with pytest.raises(NotCommitted, match=words):
        once(body)
    assert effects() == 0
    assert not IdempotencyRecord.objects.filter(state="succeeded").exists()
    assert_clean()


def assert_clean():
    """What this process writes now is there for others, and no lock of ours is left."""
    effect("later")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database "
            "WHERE locktype = 'advisory' AND datname = current_database()"
        )
        assert cursor.fetchone() == (0,)
    assert connection.get_autocommit()
    connection.close()
    assert effects("later") == 1


# -- other people's transactions -----------------------------------------------------------------


def test_inside_somebody_s_transaction_it_is_refused():
    with transaction.atomic(), pytest.raises(InsideTransaction, match="atomic"):
        once()
    assert effects() == 0


def test_behind_a_raw_begin_it_is_refused():
    connection.ensure_connection()
    connection.connection.execute("BEGIN")
    with pytest.raises(InsideTransaction):
        once()
    connection.connection.execute("ROLLBACK")


def test_in_manual_commit_mode_it_is_refused():
    transaction.set_autocommit(False)
    try:
        with pytest.raises(ManualCommit, match="AUTOCOMMIT"):
            once()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


# -- on_commit hooks -----------------------------------------------------------------------------


def test_hooks_run_after_the_commit_and_not_in_a_replay():
    seen = []

    def body():
        transaction.on_commit(lambda: seen.append(IdempotencyRecord.objects.count()))

    once(body)
    once(body)
    assert seen == [1]


def test_a_failing_hook_is_not_the_job_s_failure():
    def body():
        effect()
        transaction.on_commit(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        once(body)
    assert the_record().state == "succeeded"
    assert once(body).replayed is True
    assert effects() == 1


def test_a_hook_that_fails_as_if_the_transaction_was_lost_is_told():
    def body():
        effect()
        transaction.on_commit(lambda: raise_in_database("40P01"))

    with pytest.raises(DatabaseError):
        once(body)
    assert (effects(), the_record().state) == (1, "succeeded")


# -- two at once ---------------------------------------------------------------------------------


def test_while_one_runs_the_other_is_refused_at_once():
    gate = Gate()
    with gate.held(lambda: once(lambda: [effect(), gate.pass_()])) as other:
        with pytest.raises(AlreadyRunning, match="another attempt"):
            once()
        gate.open()
        assert other.result().replayed is False
    assert once().replayed is True
    assert effects() == 1


@pytest.mark.parametrize("before", ["nothing", "a failure", "an expired success"])
def test_with_the_lock_lost_only_one_of_two_bodies_commits(before, no_locks):
    if before == "a failure":
        with pytest.raises(ZeroDivisionError):
            once(lambda: 1 / 0)
    if before == "an expired success":
        once(lambda: "forgotten")
        IdempotencyRecord.objects.update(expires_at=timezone.now())
    gate = Gate()

    def slow():
        effect()
        gate.pass_()
        return "slow"

    with gate.held(lambda: once(slow)) as other:
        assert once().replayed is False
        gate.open()
        outcome = other.result()
    assert (outcome.result, outcome.replayed) == ("effect", True)
    assert effects() == 1
    assert the_record().state == "succeeded"


def test_an_error_of_a_body_that_was_overtaken_is_answered_with_the_success(no_locks):
    gate = Gate()

    def slow():
        gate.pass_()
        raise ValueError("in vain")

    with gate.held(lambda: once(slow)) as other:
        once()
        gate.open()
        assert other.result().replayed is True
    assert the_record().state == "succeeded"


# -- nested --------------------------------------------------------------------------------------


def test_a_nested_call_joins_and_commits_with_the_outer_one():
    def outer():
        inner = once(lambda: effect("inner"), key="inner")
        assert once(lambda: effect("inner"), key="inner").replayed is True
        assert effects("inner") == 1
        effect("outer")
        return inner.result

    assert once(outer, key="outer").result == "inner"
    assert IdempotencyRecord.objects.count() == 2

    def failing():
        once(lambda: effect("lost"), key="lost")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 it has no message
        once(failing, key="failing")
    assert effects("lost") == 0
    assert IdempotencyRecord.objects.filter(state="succeeded").count() == 2


def test_a_nested_call_that_fails_takes_its_own_rows_only():
    def inner():
        effect("inner")
        raise ValueError

    def outer():
        effect("outer")
        with pytest.raises(ValueError):  # noqa: PT011 it has no message
            once(inner, key="inner")

    once(outer, key="outer")
    assert (effects("outer"), effects("inner")) == (1, 0)


def test_a_call_inside_itself_is_refused():
    with pytest.raises(KeyNested, match="wait for itself"):
        once(lambda: once().result)


def test_a_busy_nested_call_dooms_the_outer_one_even_if_swallowed():
    gate = Gate()

    def outer():
        effect("outer")
        with pytest.raises(AlreadyRunning):
            once(key="inner")

    with (
        gate.held(lambda: once(gate.pass_, key="inner")),
        pytest.raises(AlreadyRunning),
    ):
        once(outer, key="outer")
    assert effects("outer") == 0
    assert not IdempotencyRecord.objects.filter(state="failed").exists()


@pytest.mark.parametrize("wraps", ["the outer", "the middle"])
def test_a_busy_nested_call_dooms_the_outer_one_whatever_is_made_of_it(wraps):
    gate = Gate()

    def inner():
        try:
            once(key="inner")
        except AlreadyRunning as error:
            raise RuntimeError from error

    def outer():
        effect("outer")
        if wraps == "the outer":
            inner()
        else:
            with suppress(Exception):
                once(inner, key="middle")

    with (
        gate.held(lambda: once(gate.pass_, key="inner")),
        pytest.raises(AlreadyRunning),
    ):
        once(outer, key="outer")
    assert effects("outer") == 0
    assert not IdempotencyRecord.objects.filter(state="failed").exists()


LOCK = "SELECT pg_advisory_xact_lock(%s)"


def test_a_deadlock_in_a_nested_call_begins_all_of_it_anew_whatever_is_made_of_it():
    runs = []
    with psycopg.connect(database_url()) as rival:
        rival.execute("SET deadlock_timeout = '1h'")
        rival.execute(LOCK, [2])

        def meet():
            rival.execute(LOCK, [1])
            rival.commit()

        def lock(number):
            with connection.cursor() as cursor:
                cursor.execute(LOCK, [number])

        def inner():
            lock(2)
            effect("inner")

        def outer():
            runs.append(1)
            lock(1)
            if len(runs) == 1:
                rivals.enter_context(Thread(meet))
                wait_until(waits_for_a_lock, "the rival to want what we have")
            with suppress(Exception):
                once(inner, key="inner")
            return effect("outer")

        with ExitStack() as rivals:
            once(outer, key="outer")
    assert len(runs) == 2
    assert (effects("inner"), effects("outer")) == (1, 1)


def test_a_connection_lost_in_a_nested_call_begins_all_of_it_anew_whatever_is_made_of_it():
    runs = []

    def inner():
        runs.append(1)
        if len(runs) == 1:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        effect("inner")

    def outer():
        with suppress(Exception):
            once(inner, key="inner")
        return "done"

    assert once(outer, key="outer").result == "done"
    assert len(runs) == 2
    assert effects("inner") == 1


@pytest.mark.parametrize("goes_on", [lambda: None, connection.close], ids=["", "on a new one"])
def test_a_lost_connection_whose_error_the_body_swallows_is_no_failure_of_the_job(goes_on):
    runs = []

    def body():
        runs.append(1)
        effect()
        if len(runs) == 1:
            with suppress(DatabaseError), connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            goes_on()
        return "done"

    assert once(body).result == "done"
    assert len(runs) == 2
    assert effects() == 1
    assert kinds() == []


def test_a_nested_call_does_not_wait_inside_a_transaction_that_is_doomed():
    gate = Gate()
    with (
        gate.held(lambda: once(gate.pass_, key="inner")),
        pytest.raises(AlreadyRunning),
    ):
        # Were it to wait, the gate would not open before the test's time is up.
        once(lambda: once(key="inner", wait=timedelta(hours=1)), key="outer")


# -- secrets -------------------------------------------------------------------------------------


def secrets(*names):
    return override_settings(IDEMPOTENCY={"KEY_SECRETS": names})


def test_a_rotated_secret_forgets_nothing():
    with secrets("old"):
        once(fingerprint="a")
    with secrets("old", "new"):
        assert once(fingerprint="a").replayed is True
    with secrets("new", "old"):
        assert once(fingerprint="a").replayed is True
        with pytest.raises(KeyReused):
            once(fingerprint="b")
    assert effects() == 1


def test_the_first_secret_can_be_introduced():
    once()
    with secrets(None, "first"):
        assert once().replayed is True
    with secrets("first", None):
        assert once().replayed is True
    assert effects() == 1


def test_in_the_middle_of_a_rotation_the_key_is_locked_under_every_secret():
    gate = Gate()

    def other_deploy():
        with secrets("old"):  # override_settings is global, so only the call itself is inside
            return once(gate.pass_)

    with gate.held(other_deploy), secrets("new", "old"), pytest.raises(AlreadyRunning):
        once()
    assert effects() == 0


# -- Django's TestCase ---------------------------------------------------------------------------


@pytest.mark.django_db(transaction=False)
def test_inside_django_s_test_case_it_works_without_a_commit():
    assert once().replayed is False
    assert once().replayed is True
    with pytest.raises(ZeroDivisionError):
        once(lambda: 1 / 0, key="failing")
    assert once(key="failing").replayed is False
    assert kinds() == ["duplicate", "failed"]
    assert effects() == 2


# -- events --------------------------------------------------------------------------------------


def test_a_storm_on_one_key_does_not_fill_the_log():
    for _ in range(15):
        once()
    assert kinds() == ["duplicate"] * 10


def test_an_event_that_cannot_be_written_undoes_nothing(caplog):
    once()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE idempotency_event RENAME TO away")
    try:
        assert once().replayed is True
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE away RENAME TO idempotency_event")
    assert "could not be written" in caplog.text
