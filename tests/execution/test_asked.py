"""``Leased(on_doubt=ask)``: the provider is asked what became of an effect."""

from datetime import timedelta

import pytest
from django.utils import timezone

from idempotency import Leased, OnDoubt, Verdict, current_attempt, idempotent, resolution
from idempotency.exceptions import AlreadyRunning, InDoubt, LeaseLost
from idempotency.jobs import jobs
from idempotency.maintenance import Swept, sweep
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage, Reason
from idempotency.parking import Published
from idempotency.policies import Doubt
from idempotency.resolution import release, resolve
from tests.execution.bodies import Gate, kinds, the_record

pytestmark = pytest.mark.django_db(transaction=True)

LEASE = timedelta(minutes=1)


class Provider:
    """The other side, which can be asked."""

    def __init__(self):
        self.taken, self.doubts, self.verdict = [], [], None

    def ask(self, doubt: Doubt) -> Verdict:
        self.doubts.append(doubt)
        if isinstance(self.verdict, type) and issubclass(self.verdict, Exception):
            raise self.verdict
        if self.verdict is not None:
            return self.verdict
        if doubt.provider_key in self.taken:
            return Verdict.happened("told by the provider")
        return Verdict.did_not_happen()


@pytest.fixture
def provider():
    yield Provider()
    jobs.pop("pay", None)


@pytest.fixture
def paid(provider):
    """A job, and the list of how its runs end: 'taken', 'lost' or 'done'."""
    ends = []

    @idempotent(
        key="order",
        scope="pay",
        policy=Leased(on_doubt=provider.ask, lease=LEASE, marks_effect=True),
    )
    def pay(order):
        current_attempt().effect_begins()
        end = ends.pop(0)
        end = end() if callable(end) else end
        if end in ("taken", "done"):
            provider.taken.append(current_attempt().provider_key)
        if end != "done":
            raise TimeoutError
        return "done by the body"

    return pay, ends


def doubt(paid, end):
    function, ends = paid
    ends[:] = [end, "done"]
    with pytest.raises(TimeoutError):
        function(7)
    assert the_record().state == "in_doubt"


def let_time_pass():
    assert IdempotencyRecord.objects.update(lease_expires_at=timezone.now()) == 1


def test_what_happened_is_not_repeated(paid, provider):
    doubt(paid, "taken")
    let_time_pass()
    assert paid[0](7) == "told by the provider"
    assert provider.taken == [the_record().provider_key]
    [asked] = provider.doubts
    assert asked.provider_key == the_record().provider_key
    assert asked.arguments == {"order": 7}
    assert asked.begun_at == the_record().effect_begun_at
    assert (asked.scope, asked.attempt) == ("pay", 1)
    assert kinds() == ["in_doubt", "resolved", "duplicate"]


def test_what_did_not_happen_is_done(paid, provider):
    doubt(paid, "lost")
    let_time_pass()
    assert paid[0](7) == "done by the body"
    assert len(provider.taken) == 1
    assert the_record().attempt == 2


@pytest.mark.parametrize("verdict", [Verdict.unknown(), ZeroDivisionError, "yes"])
def test_without_an_answer_the_doubt_stays(verdict, paid, provider):
    doubt(paid, "taken")
    let_time_pass()
    provider.verdict = verdict
    with pytest.raises(InDoubt):
        paid[0](7)
    assert the_record().state == "in_doubt"


def test_nobody_is_asked_while_the_provider_may_still_be_at_work(paid, provider):
    doubt(paid, "taken")
    with pytest.raises(AlreadyRunning, match="too early to ask"):
        paid[0](7)
    assert sweep() == Swept(0, 0, 0, Published())
    assert provider.doubts == []


def test_a_holder_that_died_is_asked_about(paid, provider):
    gate = Gate()
    function, ends = paid
    ends[:] = [lambda: gate.pass_() or "taken", "done"]
    with gate.held(lambda: function(7)):
        let_time_pass()
        provider.taken.append(the_record().provider_key)
        assert function(7) == "told by the provider"


def test_a_claim_that_is_released_by_force_is_asked_about_after_its_lease(paid, provider):
    """Its process is dead, which the provider may not know."""
    gate = Gate()
    function, ends = paid
    ends[:] = [lambda: gate.pass_() or "lost", "done"]
    with gate.held(lambda: function(7)) as stale:
        released = release(the_record().key_hash, reason="its host is gone", force=True)
        assert released.state == "in_doubt"
        with pytest.raises(AlreadyRunning, match="too early to ask"):
            function(7)
        assert sweep().asked == 0
        let_time_pass()
        assert function(7) == "done by the body"
        gate.open()
        assert isinstance(stale.result(), LeaseLost)
    assert len(provider.doubts) == 1


def test_an_answer_ends_only_the_doubt_it_is_about(paid):
    """Resolved, claimed and in doubt again while the answer was on its way."""
    doubt(paid, "taken")
    let_time_pass()
    first = the_record().claim_id

    def slow_answer(asked):
        resolve(asked.key_hash, Verdict.did_not_happen(), reason="somebody said so")
        paid[1][:] = ["lost"]
        with pytest.raises(TimeoutError):
            paid[0](7)
        return Verdict.happened("of the first doubt")

    asked = Doubt(
        key_hash=the_record().key_hash,
        scope="pay",
        attempt=1,
        provider_key=the_record().provider_key,
        begun_at=timezone.now(),
        arguments=None,
    )
    resolution.ask(slow_answer, asked, claim_id=first, using="default")
    record = the_record()
    assert (record.state, record.attempt) == ("in_doubt", 2)


def test_the_claim_s_own_policy_decides_whether_anybody_is_asked(provider):
    hold = Leased(on_doubt=OnDoubt.HOLD, lease=LEASE)
    ask = Leased(on_doubt=provider.ask, lease=LEASE)

    def body(order):
        return order / 0

    held = idempotent(key="order", scope="pay", policy=hold)(body)
    asked = idempotent(key="order", scope="pay", policy=ask)(body)
    with pytest.raises(ZeroDivisionError):
        held(7)
    let_time_pass()
    with pytest.raises(InDoubt):
        asked(7)
    assert provider.doubts == []


# -- the sweeper ---------------------------------------------------------------------------------


def test_the_sweeper_asks(paid, provider):
    doubt(paid, "taken")
    let_time_pass()
    assert sweep() == Swept(0, 1, 1, Published())
    assert sweep() == Swept(0, 0, 0, Published())
    assert paid[0](7) == "told by the provider"
    assert provider.doubts[0].arguments is None


def test_the_sweeper_finds_tasks_that_nobody_has_imported(paid, provider, monkeypatch):
    doubt(paid, "taken")
    let_time_pass()
    job = jobs.pop("pay")
    monkeypatch.setattr("idempotency.jobs.loaders", [lambda: jobs.update(pay=job)])
    assert sweep() == Swept(0, 1, 1, Published())


def test_the_sweeper_makes_silent_ends_visible(paid, provider):
    gate = Gate()
    function, ends = paid
    ends[:] = [lambda: gate.pass_() or "taken"]
    provider.verdict = Verdict.unknown()
    with gate.held(lambda: function(7)):
        let_time_pass()
        assert sweep() == Swept(1, 1, 0, Published())
        assert the_record().state == "in_doubt"
    assert IdempotencyEvent.objects.filter(note="Found by the sweeper.").count() == 1


def test_a_rehearsed_sweep_asks_nobody_and_changes_nothing(paid, provider, published):
    gate = Gate()
    function, ends = paid
    ends[:] = [lambda: gate.pass_() or "taken"]
    with gate.held(lambda: function(7)):
        assert sweep(dry_run=True) == Swept(0, 0, 0, Published())
        let_time_pass()
        before = IdempotencyRecord.objects.values().get()
        ParkedMessage.objects.create(
            key_hash=before["key_hash"], reason=Reason.GAVE_UP, task_id="1", message="1"
        )
        assert sweep(dry_run=True) == Swept(1, 1, 0, Published())
        assert IdempotencyRecord.objects.values().get() == before
        assert sweep() == Swept(1, 1, 1, Published())
    assert len(provider.doubts) == 1
    assert published == ["1"]


def test_a_doubt_of_an_unknown_task_stays(paid):
    doubt(paid, "taken")
    let_time_pass()
    jobs.pop("pay")
    assert sweep(dry_run=True) == Swept(0, 0, 0, Published())
    assert sweep() == Swept(0, 0, 0, Published())


def test_unknown_is_no_resolution(paid):
    doubt(paid, "taken")
    with pytest.raises(ValueError, match="ends no doubt"):
        resolve(the_record().key_hash, Verdict.unknown(), reason="?")


def test_tasks_that_cannot_be_imported_stop_no_sweep_that_asks_nobody(paid, provider, monkeypatch):
    def broken():
        raise ImportError("a typo in somebody's tasks")

    monkeypatch.setattr("idempotency.jobs.loaders", [broken])
    assert sweep() == Swept(0, 0, 0, Published())
    doubt(paid, "taken")
    let_time_pass()
    with pytest.raises(ImportError, match="a typo"):
        sweep()
