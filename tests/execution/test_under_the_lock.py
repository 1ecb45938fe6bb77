"""What runs under its key's lock is alive, whatever its record says: nobody ends it as a doubt."""

from datetime import timedelta

import pytest
from django.utils import timezone
from psycopg import connect

from idempotency import Leased, OnDoubt, Transactional, Verdict
from idempotency.attempts import Delivery
from idempotency.calls import Call
from idempotency.digests import digest
from idempotency.exceptions import AlreadyRunning, InDoubt, NotInDoubt
from idempotency.execution import run
from idempotency.maintenance import sweep
from idempotency.models import IdempotencyRecord
from idempotency.resolution import resolve
from idempotency.storage.postgresql import PostgreSQL
from tests.execution.bodies import Gate, effect, effects, kinds, the_record
from tests.harness.processes import database_url

pytestmark = pytest.mark.django_db(transaction=True)

LEASE = timedelta(minutes=1)
RETRY = Leased(on_doubt=OnDoubt.RETRY, provider_window=timedelta(days=1), lease=LEASE)
HOLD = Leased(on_doubt=OnDoubt.HOLD, lease=LEASE)
BOTH = pytest.mark.parametrize("redelivered", [True, False], ids=["noted", "not-noted"])


def deliver(body=effect, policy=Transactional(), *, redelivered=True):  # noqa: B008 frozen
    delivery = Delivery()
    delivery.redelivered = delivery.repeated = redelivered
    key = digest("key", scope="test", secrets=())
    return run(Call(function=body, key=key, policy=policy, delivery=delivery)).result


@pytest.fixture(autouse=True)
def unclear():
    """An effect that may be repeated, for a while."""
    with pytest.raises(TimeoutError):
        deliver(raise_(TimeoutError("no answer")), RETRY)


def raise_(error):
    def body():
        raise error

    return body


def let_time_pass():
    """The grace of a start note is over, and the provider's window too."""
    past = timezone.now() - timedelta(seconds=1)
    IdempotencyRecord.objects.update(repeat_until=past)
    IdempotencyRecord.objects.filter(state="running").update(lease_expires_at=past)


@pytest.fixture
def running(request):
    """A transaction that began while its key's effect could be repeated, and ends after that."""
    gate = Gate()
    body = lambda: [gate.pass_(), effect()]  # noqa: E731
    redelivered = request.node.callspec.params["redelivered"]
    with gate.held(lambda: deliver(body, redelivered=redelivered)) as running:
        let_time_pass()
        yield
        gate.open()
        assert running.result() == [None, "effect"]
    assert (effects(), the_record().state) == (1, "succeeded")


@BOTH
@pytest.mark.parametrize("policy", [Transactional(), RETRY, HOLD])
def test_another_delivery_finds_it_busy_and_no_doubt(running, policy, redelivered):
    for flagged in (True, False):
        with pytest.raises(AlreadyRunning):
            deliver(policy=policy, redelivered=flagged)
    assert "in_doubt" not in kinds()


@BOTH
def test_the_sweeper_leaves_it_as_it_is(running, redelivered):
    assert sweep().doubts == 0
    assert "in_doubt" not in kinds()


@BOTH
@pytest.mark.parametrize("verdict", [Verdict.happened(), Verdict.did_not_happen()])
def test_an_operator_resolves_nothing_of_it(running, verdict, redelivered):
    with pytest.raises(NotInDoubt, match="holds the key at this moment"):
        resolve(the_record().key_hash, verdict, reason="?")


def die():
    """A noted start whose process ends without a word."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PostgreSQL, "fail", lambda *_, **__: False)
        with pytest.raises(SystemExit):
            deliver(raise_(SystemExit()))
    let_time_pass()
    assert the_record().state == "running"


def found_by_a_delivery():
    with pytest.raises(InDoubt):
        deliver()


def found_by_the_sweeper():
    assert sweep().doubts == 1


def found_by_an_operator():
    resolve(the_record().key_hash, Verdict.did_not_happen(), reason="not there")


@pytest.mark.parametrize("find", [found_by_a_delivery, found_by_the_sweeper, found_by_an_operator])
def test_once_it_has_died_anybody_finds_the_doubt(find):
    die()
    find()
    assert the_record().state in ("in_doubt", "failed")


@pytest.mark.parametrize("found", ["a doubt", "exhausted"])
def test_what_was_taken_for_dead_and_runs_by_now_is_left_as_it_is(found, monkeypatch):
    """A start that was late for its lock, and has it when its death is to be written down."""
    die()
    if found == "exhausted":
        IdempotencyRecord.objects.update(policy="transactional", effect_begun_at=None, deaths=9)
    [number] = digest("key", scope="test", secrets=()).lock_numbers
    look, looks = PostgreSQL.lock_and_look, []
    with connect(database_url()) as late:

        def look_again(self, key, **asked):
            looks.append(key)
            if len(looks) == 2:
                late.execute("SELECT pg_advisory_xact_lock(%s)", [number])
            return look(self, key, **asked)

        monkeypatch.setattr(PostgreSQL, "lock_and_look", look_again)
        with pytest.raises(AlreadyRunning):
            deliver()
    assert the_record().state == "running"


@pytest.mark.parametrize("error", [SystemExit(), AlreadyRunning("nested")])
def test_a_start_that_ended_by_itself_leaves_the_effect_before_it_as_it_was(error):
    with pytest.raises(type(error)):
        deliver(raise_(error))
    assert the_record().state == "failed"
    let_time_pass()
    with pytest.raises(InDoubt):
        deliver()
