"""An attempt that dies time and again is stopped, and one that only waits or fails is not."""

from datetime import timedelta

import pytest
from django.test import override_settings
from django.utils import timezone

from idempotency import Leased, OnDoubt, Transactional, Verdict, current_attempt
from idempotency.attempts import Delivery
from idempotency.calls import Call
from idempotency.digests import digest
from idempotency.exceptions import AlreadyRunning, Exhausted, InDoubt
from idempotency.execution import run
from idempotency.models import IdempotencyRecord, Reason
from idempotency.parking import park
from idempotency.resolution import allow_again, resolve
from idempotency.storage.postgresql import PostgreSQL
from tests.execution.bodies import Gate, Thread, effect, effects, kinds, the_record

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("at_most_two")]

RETRY = Leased(on_doubt=OnDoubt.RETRY, provider_window=None)
HOLD = Leased(on_doubt=OnDoubt.HOLD)
MARKED = Leased(on_doubt=OnDoubt.HOLD, marks_effect=True)


class Death(BaseException):
    """A process that ends here writes nothing any more."""


@pytest.fixture
def at_most_two():
    with override_settings(IDEMPOTENCY={"MAX_REDELIVERIES": 2}):
        yield


def deliver(body=effect, policy=Transactional(), *, redelivered=True):  # noqa: B008 frozen
    delivery = Delivery()
    delivery.redelivered = delivery.repeated = redelivered
    key = digest("key", scope="test", secrets=())
    return run(Call(function=body, key=key, policy=policy, delivery=delivery)).result


@pytest.fixture
def die(monkeypatch):
    """Deliver to a process that dies in the body."""

    def die(policy=Transactional(), **options):  # noqa: B008 frozen
        with monkeypatch.context() as patch:
            patch.setattr(PostgreSQL, "fail", lambda *_, **__: False)
            patch.setattr(PostgreSQL, "leave_in_doubt", lambda *_, **__: False)
            with pytest.raises(Death):
                deliver(lambda: raise_(Death), policy, **options)
        let_time_pass()

    return die


def raise_(error):
    raise error


def let_time_pass():
    IdempotencyRecord.objects.filter(state="running").update(
        lease_expires_at=timezone.now() - timedelta(seconds=1)
    )


@pytest.mark.parametrize("policy", [Transactional(), MARKED])
def test_a_body_that_kills_its_worker_is_stopped(policy, die):
    die(policy)
    die(policy)
    with pytest.raises(Exhausted, match="2 attempts died"):
        deliver(policy=policy)
    assert (the_record().state, the_record().deaths) == ("failed", 2)
    with pytest.raises(Exhausted):
        deliver(policy=policy, redelivered=False)
    assert (effects(), kinds().count("exhausted")) == (0, 1)


def test_a_repeated_effect_that_kills_its_worker_is_a_doubt_in_the_end(die):
    die(RETRY)
    die(RETRY)
    with pytest.raises(InDoubt):
        deliver(policy=RETRY)
    assert the_record().state == "in_doubt"
    resolve(the_record().key_hash, Verdict.happened("seen there"), reason="seen there")
    assert deliver(policy=RETRY) == "seen there"


def test_deaths_are_counted_through_doubts(die):
    for _ in range(2):
        die(HOLD)
        with pytest.raises(InDoubt):
            deliver(policy=HOLD)
        resolve(the_record().key_hash, Verdict.did_not_happen(), reason="not there")
    with pytest.raises(Exhausted):
        deliver(policy=HOLD)


def test_an_exhausted_record_runs_when_it_is_allowed_again(die, published):
    die()
    die()
    with pytest.raises(Exhausted):
        deliver()
    key_hash = the_record().key_hash
    assert park("default", key_hash, Reason.EXHAUSTED, task_id="a", message="a")
    assert allow_again(key_hash, reason="fixed").published == 1
    assert published == ["a"]
    assert park("default", key_hash, Reason.EXHAUSTED, task_id="a", message="a") is False
    assert deliver() == "effect"
    assert (the_record().state, the_record().deaths) == ("succeeded", None)


def test_a_first_delivery_leaves_no_note():
    deliver(lambda: effect(str(IdempotencyRecord.objects.count())), redelivered=False)
    assert effects("0") == 1


def test_a_success_after_a_death_is_one_attempt_more(die):
    die()
    assert deliver(lambda: effect(str(current_attempt().number))) == "2"
    record = the_record()
    assert (record.state, record.attempt, record.deaths) == ("succeeded", 2, 1)
    assert (record.claim_id, record.lease_expires_at, record.policy) == (None, None, None)
    assert kinds() == ["taken_over"]


def test_an_attempt_after_a_death_is_counted_whatever_its_message_says(die):
    die()
    die(redelivered=False)
    with pytest.raises(Exhausted):
        deliver(redelivered=False)


@pytest.mark.parametrize("error", [ValueError, SystemExit, AlreadyRunning("nested")])
def test_a_start_that_ended_by_itself_is_no_death(error):
    for _ in range(3):
        with pytest.raises(type(error) if isinstance(error, Exception) else error):
            deliver(lambda: raise_(error))
    assert (the_record().state, the_record().deaths) == ("failed", None)
    assert deliver() == "effect"


def test_copies_of_a_long_healthy_job_are_no_deaths():
    gate = Gate()
    with gate.held(lambda: deliver(lambda: [gate.pass_(), effect()])) as healthy:
        for _ in range(4):
            with pytest.raises(AlreadyRunning):
                deliver()
            let_time_pass()
        gate.open()
        healthy.result()
    assert (the_record().state, the_record().deaths, effects()) == ("succeeded", None, 1)


@pytest.fixture
def between(monkeypatch):
    """Do something between the note of the next start and its transaction."""

    def between(act):
        look, looks = PostgreSQL.lock_and_look, []

        def act_before_the_second(self, key, **options):
            looks.append(key)
            if len(looks) == 2:
                act()
            return look(self, key, **options)

        monkeypatch.setattr(PostgreSQL, "lock_and_look", act_before_the_second)

    return between


def later(*arguments, **options):
    """Deliver when the note of the start has lost its force."""
    let_time_pass()
    return deliver(*arguments, **options)


def test_a_start_holds_the_key_before_it_has_the_lock(between):
    refused = []

    def another():
        with Thread(lambda: deliver(redelivered=False)) as thread:
            refused.append(thread.result())

    between(another)
    assert deliver() == "effect"
    assert (effects(), type(refused[0])) == (1, AlreadyRunning)


@pytest.mark.parametrize("redelivered", [True, False])
def test_a_start_that_was_taken_over_gives_way(between, redelivered):
    def another():
        with Thread(lambda: later(redelivered=redelivered)) as thread:
            assert thread.result() == "effect"

    between(another)
    assert deliver(lambda: effect("twice")) == "effect"
    assert (effects(), effects("twice"), the_record().state) == (1, 0, "succeeded")


def test_a_start_whose_doubt_was_resolved_before_it_had_the_lock_is_answered(between):
    with pytest.raises(TimeoutError):
        deliver(lambda: raise_(TimeoutError), RETRY)

    def said():
        let_time_pass()
        resolve(the_record().key_hash, Verdict.happened("seen"), reason="seen there")

    between(lambda: Thread(said).__enter__().result())
    assert (deliver(), effects(), the_record().state) == ("seen", 0, "succeeded")


def test_a_start_that_was_exhausted_before_it_had_the_lock_does_not_run(between, settings):
    settings.IDEMPOTENCY = {"MAX_REDELIVERIES": 1}

    def given_up():
        let_time_pass()
        with pytest.raises(Exhausted):
            deliver()

    between(lambda: Thread(given_up).__enter__().result())
    with pytest.raises(Exhausted):
        deliver()
    assert (effects(), the_record().state) == (0, "failed")


def test_a_start_overtaken_by_a_running_one_waits_for_it(between):
    gate = Gate()
    others = []

    def another():
        others.append(Thread(lambda: later(lambda: [gate.pass_(), effect()])))
        others[0].__enter__()
        gate.wait()

    between(another)
    with pytest.raises(AlreadyRunning):
        deliver(lambda: effect("twice"))
    gate.open()
    others[0].result()
    assert (effects(), effects("twice"), the_record().state) == (1, 0, "succeeded")
