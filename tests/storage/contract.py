"""What every vendor promises. A class of tests for each inherits it, and names its alias."""

import os
import signal
import threading
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, IntegrityError, connections, transaction
from django.db.models.functions import Now
from django.test import override_settings
from django.utils import timezone

from idempotency import Leased, OnDoubt, Transactional, Verdict, current_attempt, execute
from idempotency.attempts import Delivery
from idempotency.calls import Call
from idempotency.digests import digest
from idempotency.exceptions import (
    AlreadyRunning,
    BodyCommitted,
    Exhausted,
    InDoubt,
    InsideTransaction,
    KeyNested,
    KeyReused,
    LeaseLost,
    NotCommitted,
    NotInDoubt,
)
from idempotency.execution import run
from idempotency.maintenance import purge, sweep
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage, Reason
from idempotency.parking import park
from idempotency.resolution import allow_again, resolve
from idempotency.statistics import redelivery_rates
from idempotency.storage import storage_for
from tests.execution.bodies import renamed
from tests.harness.waiting import wait_until
from tests.jobs.models import Effect

HOLD = Leased(on_doubt=OnDoubt.HOLD)
RETRY = Leased(on_doubt=OnDoubt.RETRY, provider_window=timedelta(hours=1))


class Death(BaseException):
    """A process that ends here writes nothing any more."""


class StorageContract:
    """``using`` is the alias under test."""

    using: str

    # -- the oracle, which knows nothing of records -------------------------------------------

    def effect(self, note="effect"):
        Effect.objects.using(self.using).create(key="key", note=note, pid=os.getpid())
        return note

    def effects(self, note="effect"):
        return Effect.objects.using(self.using).filter(note=note).count()

    def once(self, body=None, key="key", scope="test", **options):
        return execute(body or self.effect, key=key, scope=scope, using=self.using, **options)

    @property
    def records(self):
        return IdempotencyRecord.objects.using(self.using)

    def the_record(self):
        return self.records.get()

    def let_the_lease_run_out(self):
        self.records.filter(state="running").update(
            lease_expires_at=timezone.now() - timedelta(seconds=1)
        )

    def assert_clean(self):
        """A write of somebody else is not lost in a transaction that was left open."""
        connection = connections[self.using]
        assert not connection.in_atomic_block
        self.effect("afterwards")
        connection.close()
        assert self.effects("afterwards") == 1

    # -- transactional ------------------------------------------------------------------------

    @pytest.mark.parametrize("result", ["effect", None, 0, False, "", [], {"a": 1}])
    def test_a_duplicate_is_answered_with_the_first_result(self, result):
        first = self.once(lambda: self.effect() and result)
        second = self.once(lambda: self.effect() and result)
        assert (first.result, first.replayed) == (result, False)
        assert (second.result, second.replayed) == (result, True)
        assert self.effects() == 1

    def test_a_failing_body_leaves_its_note_and_nothing_else(self):
        def body():
            self.effect()
            raise ValueError("no luck")

        for attempt in (1, 2):
            with pytest.raises(ValueError, match="no luck"):
                self.once(body)
            record = self.the_record()
            assert (record.state, record.attempt) == ("failed", attempt)
            assert (record.error_class, record.error_message) == ("builtins.ValueError", "no luck")
        assert self.effects() == 0
        assert self.once().replayed is False
        assert (self.the_record().state, self.the_record().attempt) == ("succeeded", 3)
        assert self.effects() == 1

    def test_an_expired_record_is_forgotten(self):
        self.once()
        self.records.update(expires_at=timezone.now())
        assert self.once().replayed is False
        assert self.effects() == 2
        assert self.the_record().attempt == 2

    def test_the_same_key_with_other_arguments_is_refused(self):
        self.once(fingerprint="a")
        with pytest.raises(KeyReused):
            self.once(fingerprint="b")

    def test_a_body_s_own_violation_of_a_constraint_is_its_own_error(self):
        def body():
            Effect.objects.using(self.using).create(key="key", note=None, pid=1)

        with pytest.raises(IntegrityError):
            self.once(body)
        assert self.the_record().state == "failed"

    @pytest.mark.parametrize("goes_on", [False, True])
    def test_a_body_that_commits_by_itself_is_no_success(self, goes_on):
        def body():
            connection = connections[self.using]
            connection.connection.commit()
            if goes_on:
                with suppress(Exception):  # psycopg has begun one by itself
                    connection.cursor().execute("BEGIN")
                self.effect()

        with pytest.raises(BodyCommitted):
            self.once(body)
        assert not self.records.filter(state="succeeded").exists()
        self.assert_clean()

    @pytest.mark.parametrize("spoil", ["close", "mark_for_rollback"])
    def test_a_body_that_cannot_be_committed_is_no_success(self, spoil):
        def body():
            self.effect()
            if spoil == "close":
                connections[self.using].close()
            else:
                transaction.set_rollback(True, using=self.using)

        with pytest.raises(NotCommitted):
            self.once(body)
        assert self.effects() == 0
        self.assert_clean()

    def test_a_body_that_is_interrupted_leaves_nothing(self):
        def body():
            self.effect()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.once(body)
        assert not self.records.exists()
        assert self.effects() == 0
        self.assert_clean()

    def test_inside_somebody_s_transaction_it_is_refused(self):
        with transaction.atomic(using=self.using), pytest.raises(InsideTransaction):
            self.once()

    def test_hooks_run_after_the_commit_and_not_on_a_replay(self):
        ran = []

        def body():
            transaction.on_commit(lambda: ran.append(self.the_record().state), using=self.using)

        self.once(body)
        self.once(body)
        assert ran == ["succeeded"]

    def test_a_nested_call_commits_with_the_outer_one_or_not_at_all(self):
        def outer(error=None):
            self.once(lambda: self.effect("inner"), key="inner")
            self.effect("outer")
            if error:
                raise error

        with pytest.raises(ValueError, match="no luck"):
            self.once(lambda: outer(ValueError("no luck")), key="outer")
        assert (self.effects("inner"), self.effects("outer")) == (0, 0)
        self.once(outer, key="outer")
        assert (self.effects("inner"), self.effects("outer")) == (1, 1)
        assert self.records.filter(state="succeeded").count() == 2

    def test_a_nested_call_of_the_same_key_is_refused(self):
        with pytest.raises(KeyNested):
            self.once(self.once)

    def test_of_many_at_once_one_has_the_effect(self):
        number, barrier, outcomes = 6, threading.Barrier(6), []

        def call():
            barrier.wait()
            try:
                outcomes.append(self.once(wait=timedelta(seconds=20)).replayed)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=call) for _ in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(outcomes) == [False] + [True] * (number - 1)
        assert self.effects() == 1

    def test_a_record_under_an_older_secret_is_found(self):
        with override_settings(IDEMPOTENCY={"KEY_SECRETS": ["old"]}):
            self.once()
        with override_settings(IDEMPOTENCY={"KEY_SECRETS": ["new", "old"]}):
            assert self.once().replayed is True

    def test_a_killed_process_leaves_nothing(self, call, gates):
        gates.close("in the body")
        held = call(
            "tests.jobs.calls:hold_in_body",
            environment={"TEST_SQLITE": str(connections["sqlite"].settings_dict["NAME"])},
            using=self.using,
        )
        gates.wait_for_arrivals("in the body")
        held.signal(signal.SIGKILL)
        held.wait()
        assert self.effects() == 0
        assert self.once().replayed is False
        assert self.effects() == 1

    # -- deaths -------------------------------------------------------------------------------

    def deliver(self, body=None):
        delivery = Delivery()
        delivery.redelivered = delivery.repeated = True
        key = digest("key", scope="test", secrets=())
        return run(
            Call(
                function=body or self.effect,
                key=key,
                policy=Transactional(),
                delivery=delivery,
                using=self.using,
            )
        )

    def test_a_body_that_kills_its_worker_is_stopped(self, monkeypatch):
        def die():
            raise Death

        with override_settings(IDEMPOTENCY={"MAX_REDELIVERIES": 2}):
            for _ in range(2):
                with monkeypatch.context() as patch:
                    patch.setattr(type(storage_for(self.using)), "fail", lambda *_, **__: False)
                    with pytest.raises(Death):
                        self.deliver(die)
                self.let_the_lease_run_out()
            with pytest.raises(Exhausted, match="2 attempts died"):
                self.deliver()
            allow_again(self.the_record().key_hash, reason="repaired", using=self.using)
            assert self.deliver().replayed is False
        assert self.effects() == 1

    def test_a_start_that_was_noted_ends_in_success(self):
        assert self.deliver().replayed is False
        record = self.the_record()
        assert (record.state, record.attempt, record.claim_id) == ("succeeded", 1, None)

    # -- leased -------------------------------------------------------------------------------

    def test_a_leased_success_is_replayed(self):
        assert self.once(policy=HOLD).replayed is False
        assert self.once(policy=HOLD).replayed is True
        assert self.effects() == 1

    def doubt(self):
        def body():
            self.effect()
            raise TimeoutError

        with pytest.raises(TimeoutError):
            self.once(body, policy=HOLD)
        with pytest.raises(InDoubt):
            self.once(policy=HOLD)
        return self.the_record().key_hash

    def test_a_doubt_that_happened_is_replayed(self):
        resolve(self.doubt(), Verdict.happened("sent"), reason="seen", using=self.using)
        assert self.once(policy=HOLD).result == "sent"
        assert self.effects() == 1

    def test_a_doubt_that_did_not_happen_runs(self):
        key_hash = self.doubt()
        resolve(key_hash, Verdict.did_not_happen(), reason="not seen", using=self.using)
        assert self.once(policy=HOLD).replayed is False
        assert self.effects() == 2
        with pytest.raises(NotInDoubt):
            resolve(key_hash, Verdict.happened(), reason="again", using=self.using)

    def test_a_repeat_has_the_same_provider_key_until_it_is_allowed_again(self):
        keys = []

        def body(error=None):
            keys.append(current_attempt().provider_key)
            if error:
                raise error

        with pytest.raises(TimeoutError):
            self.once(lambda: body(TimeoutError()), policy=RETRY)
        self.once(body, policy=RETRY)
        allow_again(self.the_record().key_hash, reason="once more", using=self.using)
        self.once(body, policy=RETRY)
        first, second, third = keys
        assert first == second != third

    def test_a_live_claim_is_busy_and_a_lapsed_one_is_a_doubt(self):
        def body():
            with pytest.raises(AlreadyRunning):
                self.once(policy=HOLD)
            self.let_the_lease_run_out()
            swept = sweep(using=self.using)
            assert swept.doubts == 1
            return "sent"

        # Its own attempt has come back, and knows.
        assert self.once(body, policy=HOLD).result == "sent"
        assert self.the_record().state == "succeeded"

    def test_a_stale_claim_settles_nothing(self):
        def body():
            self.let_the_lease_run_out()
            allowed_again = self.records.filter(state="running")
            allowed_again.update(claim_id=uuid4(), lease_expires_at=Now() + timedelta(minutes=5))
            return "stale"

        with pytest.raises(LeaseLost):
            self.once(body, policy=HOLD)
        assert (self.the_record().state, self.the_record().result) == ("running", None)

    def test_rows_of_a_settling_block_commit_with_the_settlement(self):
        def body(is_stale):
            if is_stale:
                self.records.filter(state="running").update(claim_id=uuid4())
            with current_attempt().settling("sent"):
                self.effect("settled")
            return "never seen"

        with pytest.raises(LeaseLost):
            self.once(lambda: body(True), key="stale", policy=HOLD)
        assert self.effects("settled") == 0
        assert self.once(lambda: body(False), key="fresh", policy=HOLD).result == "sent"
        assert self.effects("settled") == 1

    def test_a_lease_is_renewed_while_the_body_runs(self):
        def body():
            first = self.the_record().lease_expires_at
            wait_until(lambda: self.the_record().lease_expires_at > first, "the lease renewed")

        self.once(body, policy=Leased(on_doubt=OnDoubt.HOLD, lease=timedelta(seconds=1)))

    # -- what stands beside the record --------------------------------------------------------

    def test_a_parked_message_waits_for_its_doubt_only(self):
        key_hash = self.doubt()
        message = {"task_id": "1", "message": None}
        assert park(self.using, key_hash, Reason.IN_DOUBT, **message)
        assert park(self.using, key_hash, Reason.IN_DOUBT, **message)
        parked = ParkedMessage.objects.using(self.using)
        assert parked.count() == 1
        done = resolve(key_hash, Verdict.happened(), reason="seen", using=self.using)
        assert done.not_kept == 1
        assert not parked.exists()
        assert not park(self.using, key_hash, Reason.IN_DOUBT, **message)

    def test_a_purge_deletes_what_is_forgotten_and_nothing_else(self):
        self.once(key="old")
        self.records.update(expires_at=timezone.now() - timedelta(hours=1))
        self.once(key="new")
        assert purge(using=self.using, dry_run=True).records == 1
        purged = purge(using=self.using)
        assert purged.records == 1
        assert timedelta(hours=1) <= purged.lag < timedelta(hours=2)
        assert self.once(key="new").replayed is True
        assert self.once(key="old").replayed is False

    def test_what_was_delivered_is_counted(self):
        for _ in range(3):
            self.once()
        [rate] = redelivery_rates(since=timedelta(hours=1), using=self.using)
        assert (rate.deliveries, rate.duplicates) == (3, 2)
        assert IdempotencyEvent.objects.using(self.using).count() == 2

    @pytest.mark.parametrize("policy", [Transactional(), HOLD], ids=["transactional", "leased"])
    def test_without_its_table_it_says_that_migrate_was_not_run(self, policy):
        with (
            renamed("idempotency_record", using=self.using),
            pytest.raises(ImproperlyConfigured, match=f"--database {self.using}$") as refused,
        ):
            self.once(policy=policy)
        assert isinstance(refused.value.__cause__, DatabaseError)
        assert self.effects() == 0
        self.assert_clean()

    def test_a_body_s_own_missing_table_is_its_own(self):
        def body():
            with connections[self.using].cursor() as cursor:
                cursor.execute("SELECT 1 FROM idempotency_nothing")

        with pytest.raises(DatabaseError, match="idempotency_nothing"):
            self.once(body)
