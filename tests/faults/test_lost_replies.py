"""The line to PostgreSQL breaks around one message: before it arrives, or before its reply does."""

import os
import signal
from contextlib import suppress
from datetime import timedelta
from threading import Event

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import DatabaseError, connection, transaction
from django.test import override_settings
from django.utils import timezone
from psycopg import connect
from psycopg.conninfo import conninfo_to_dict

from idempotency import Leased, OnDoubt, Transactional, current_attempt, execute
from idempotency.attempts import Delivery
from idempotency.calls import Call
from idempotency.exceptions import AlreadyRunning, InDoubt
from idempotency.execution import run
from idempotency.keys import digest
from idempotency.models import IdempotencyRecord
from idempotency.storage.postgresql import PostgreSQL
from tests.execution.bodies import Thread, effect, effects, the_record
from tests.harness.processes import database_url
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

HOLD = Leased(on_doubt=OnDoubt.HOLD, lease=timedelta(seconds=30))
MARKED = Leased(on_doubt=OnDoubt.HOLD, lease=timedelta(seconds=30), marks_effect=True)


@pytest.fixture
def line(proxy):
    """This process's own connection goes through the proxy."""
    own = dict(connection.settings_dict)
    connection.close()
    through = conninfo_to_dict(proxy.url)
    connection.settings_dict |= {"HOST": through["host"], "PORT": through["port"]}
    yield proxy
    connection.close()
    connection.settings_dict |= {"HOST": own["HOST"], "PORT": own["PORT"]}


def once(body=effect, **options):
    return execute(body, key="key", scope="test", **options)


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("message", ["pg_try_advisory_xact_lock", "jobs_effect", "COMMIT"])
def test_a_transactional_job_survives_a_cut_at_each_message(message, place, line, told):
    ran = []

    def body():
        transaction.on_commit(lambda: ran.append("hook"))
        return effect()

    line.cut(**{place: message})
    outcome = once(body)
    assert (outcome.result, outcome.replayed) == ("effect", False)
    assert effects() == 1
    assert ran == ["hook"]
    assert the_record().state == "succeeded"
    assert [name for name, _ in told] == ["attempt_succeeded"]


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_result_that_is_not_stored_survives_a_lost_commit(place, line):
    line.cut(**{place: "COMMIT"})
    assert once(store_result=False).result == "effect"
    assert (once(store_result=False).result, effects()) == (None, 1)


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("policy", [HOLD, MARKED])
@pytest.mark.parametrize("message", ["pg_try_advisory_xact_lock", "UPDATE"])
def test_a_leased_job_survives_a_cut_at_each_message(message, policy, place, line):
    """The claim; the mark of the effect, else the settlement."""
    calls = []

    def body():
        if policy.marks_effect:
            current_attempt().effect_begins()
        calls.append("effect")
        return "sent"

    line.cut(**{place: message})
    outcome = once(body, policy=policy)
    assert (outcome.result, outcome.replayed) == ("sent", False)
    assert calls == ["effect"]
    record = the_record()
    assert (record.state, record.attempt, record.result) == ("succeeded", 1, '"sent"')


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("message", ["SET TRANSACTION", "BEGIN", "UPDATE", "COMMIT"])
def test_a_take_over_survives_a_cut_at_each_message(message, place, line, told):
    """SET TRANSACTION is in the claim that finds a record, here of an older secret."""
    policy = Leased(on_doubt=OnDoubt.HOLD, no_effect_errors=(KeyError,))
    with override_settings(IDEMPOTENCY={"KEY_SECRETS": ["old"]}), pytest.raises(KeyError):
        once({}.popitem, policy=policy)
    told.clear()
    line.cut(**{place: message})
    with override_settings(IDEMPOTENCY={"KEY_SECRETS": ["new", "old"]}):
        assert once(policy=policy).result == "effect"
    assert effects() == 1
    assert (the_record().state, the_record().attempt) == ("succeeded", 2)
    assert [name for name, _ in told][-2:] == ["attempt_claimed", "attempt_succeeded"]


def settle():
    with current_attempt().settling(result="settled"):
        effect()


def test_a_settlement_whose_reply_was_lost_is_known_by_its_claim(line):
    def body():
        line.cut(after="COMMIT")
        settle()

    assert once(body, policy=HOLD).result == "settled"
    assert effects() == 1
    assert the_record().state == "succeeded"


def test_a_settlement_that_never_arrived_leaves_the_doubt_and_no_row(line):
    def body():
        line.cut(before="COMMIT")
        settle()

    with pytest.raises(DatabaseError):
        once(body, policy=HOLD)
    assert effects() == 0
    with pytest.raises(InDoubt):
        once(policy=HOLD)


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_connection_lost_before_a_settling_block_begins_is_no_doubt(place, line):
    def body():
        line.cut(**{place: "FOR NO KEY UPDATE"})
        settle()

    assert once(body, policy=HOLD).result == "settled"
    assert effects() == 1
    assert the_record().state == "succeeded"


@pytest.mark.parametrize("step", ["mark", "settle"])
def test_a_lost_connection_that_the_body_has_met_already_is_no_open_transaction(step, line):
    def body():
        if step == "settle":
            current_attempt().effect_begins()
        line.cut(before="jobs_effect")
        with suppress(DatabaseError):
            effects()
        current_attempt().effect_begins() if step == "mark" else settle()
        return "settled"

    assert once(body, policy=MARKED).result == "settled"
    assert the_record().state == "succeeded"


@pytest.mark.parametrize("step", ["mark", "settle"])
def test_a_database_that_is_away_for_a_while_is_waited_for(step, line):
    def away():
        line.go_down()
        connection.close()
        with Thread(come_back):
            current_attempt().effect_begins() if step == "mark" else settle()

    def come_back():
        wait_until(lambda: line.refused, "the attempt to find nobody")
        line.come_up()

    def body():
        if step == "settle":
            current_attempt().effect_begins()
        away()
        return "settled"

    assert once(body, policy=MARKED).result == "settled"
    assert the_record().state == "succeeded"


@pytest.mark.parametrize("policy", [None, HOLD])
def test_a_call_after_a_lost_connection_that_somebody_has_met_begins_on_a_new_one(policy, line):
    line.cut(before="jobs_effect")
    with suppress(DatabaseError):
        effects()
    assert once(**({"policy": policy} if policy else {})).result == "effect"
    assert effects() == 1


SLOW_COMMIT = """
CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON jobs_effect
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_for_test()
"""
COMMITTING = """
SELECT pid FROM pg_stat_activity
 WHERE wait_event = 'advisory' AND datname = current_database()
"""
WAITS_LONG = """
SELECT pid FROM pg_stat_activity
 WHERE wait_event = 'transactionid' AND datname = current_database()
   AND query_start < clock_timestamp() - interval '5 seconds'
"""


@pytest.fixture
def slow_commit():
    """COMMIT waits in the server for as long as this connection holds a lock."""
    with connect(database_url(), autocommit=True) as observer:
        observer.execute(SLOW_COMMIT)
        observer.execute("SELECT pg_advisory_lock(4711)")
        yield observer
        observer.execute("SELECT pg_advisory_unlock_all()")
        observer.execute("DROP FUNCTION wait_for_test CASCADE")


class Redelivered(Delivery):
    repeated = redelivered = True


def test_a_redelivered_attempt_does_not_wait_for_its_own_commit(slow_commit, monkeypatch):
    """Its record has replaced its start note, which it cannot end before COMMIT is over."""
    ended, waited = Event(), []

    def strike(*_):
        raise SoftTimeLimitExceeded

    def limit():
        wait_until(lambda: slow_commit.execute(COMMITTING).fetchone(), "the COMMIT to wait")
        os.kill(os.getpid(), signal.SIGUSR1)
        wait_until(lambda: ended.is_set() or waits_long(), "the answer")
        slow_commit.execute("SELECT pg_advisory_unlock_all()")

    def waits_long():
        waited[:] = slow_commit.execute(WAITS_LONG).fetchall()
        return waited

    key = digest("key", scope="test")
    call = Call(function=effect, key=key, policy=Transactional(), delivery=Redelivered())
    monkeypatch.setattr("idempotency.transactional.LOST_COMMIT_WAIT", 0.2)
    before = signal.signal(signal.SIGUSR1, strike)
    try:
        with Thread(limit):
            with pytest.raises(AlreadyRunning, match="was not answered"):
                run(call)
            ended.set()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert waited == []
    wait_until(effects, "the old backend to commit")
    assert (once().replayed, effects()) == (True, 1)


@pytest.mark.parametrize("patient", [False, True])
def test_a_commit_still_in_progress_is_neither_success_nor_failure(
    patient, slow_commit, monkeypatch
):
    """A soft time limit strikes while the server commits: *absent* does not mean rolled back."""

    def strike(*_):
        raise SoftTimeLimitExceeded

    def limit():
        wait_until(lambda: slow_commit.execute(COMMITTING).fetchone(), "the COMMIT to wait")
        os.kill(os.getpid(), signal.SIGUSR1)
        if patient:
            wait_until(busy_again, "the new connection to meet the lock")
            slow_commit.execute("SELECT pg_advisory_unlock_all()")

    looks = []
    original = PostgreSQL.lock_and_look

    def counted(storage, key, **options):
        look = original(storage, key, **options)
        looks.append(look.locked)
        return look

    def busy_again():
        return looks.count(False) > 0

    monkeypatch.setattr(PostgreSQL, "lock_and_look", counted)
    monkeypatch.setattr("idempotency.transactional.LOST_COMMIT_WAIT", 20 if patient else 0.2)
    before = signal.signal(signal.SIGUSR1, strike)
    try:
        with Thread(limit):
            if patient:
                assert once().replayed is False
            else:
                with pytest.raises(AlreadyRunning, match="was not answered"):
                    once()
    finally:
        signal.signal(signal.SIGUSR1, before)
    slow_commit.execute("SELECT pg_advisory_unlock_all()")
    wait_until(effects, "the old backend to commit")
    assert once().replayed is True
    assert effects() == 1


@pytest.mark.parametrize(
    ("error", "state", "signal"),
    [(TimeoutError, "in_doubt", "doubt_found"), (KeyError, "failed", "attempt_failed")],
)
def test_an_end_whose_reply_was_lost_is_known_by_its_claim_and_told(
    error, state, signal, line, told
):
    policy = Leased(on_doubt=OnDoubt.HOLD, no_effect_errors=(KeyError,))

    def body():
        line.cut(after="COMMIT")
        raise error("unclear")

    with pytest.raises(error):
        once(body, policy=policy)
    assert the_record().state == state
    assert [name for name, _ in told] == ["attempt_claimed", signal]


def test_a_doubt_that_is_found_is_told_though_the_reply_was_lost(line, told, monkeypatch):
    def killed():
        raise SystemExit

    monkeypatch.setattr(PostgreSQL, "leave_in_doubt", lambda *_: True)  # it could not any more
    with pytest.raises(SystemExit):
        once(killed, policy=HOLD)
    IdempotencyRecord.objects.update(lease_expires_at=timezone.now())
    told.clear()
    line.cut(after="COMMIT")
    with pytest.raises(InDoubt):
        once(policy=HOLD)
    assert [name for name, _ in told] == ["doubt_found"]
