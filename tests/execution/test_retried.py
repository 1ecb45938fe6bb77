"""``OnDoubt.RETRY``: repeated with the same provider key, while the provider knows it."""

from datetime import timedelta

import pytest
from django.utils import timezone

from idempotency import Leased, OnDoubt, Transactional, Verdict, current_attempt, execute
from idempotency.exceptions import InDoubt, LeaseLost
from idempotency.models import IdempotencyRecord
from idempotency.resolution import resolve
from tests.execution.bodies import Gate, kinds, the_record

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)
LEASE = timedelta(minutes=1)
RETRY = Leased(on_doubt=OnDoubt.RETRY, provider_window=DAY, lease=LEASE)
MARKED = Leased(
    on_doubt=OnDoubt.RETRY,
    provider_window=DAY,
    lease=LEASE,
    marks_effect=True,
    no_effect_errors=(KeyError,),
)
HOLD = Leased(on_doubt=OnDoubt.HOLD, lease=LEASE)


class Provider:
    """The other side: every call that reached it, by its provider key."""

    def __init__(self):
        self.calls = []

    def call(self, error=None):
        if error is not KeyError:
            self.calls.append(current_attempt().provider_key)
        if error:
            raise error("unclear")
        return "done"


@pytest.fixture
def provider():
    return Provider()


def once(body, policy=RETRY):
    return execute(body, key="key", scope="test", policy=policy)


def fail(provider, policy=RETRY, error=TimeoutError):
    def body():
        if policy.marks_effect:
            current_attempt().effect_begins()
        return provider.call(error)

    with pytest.raises(error):
        once(body, policy)


def let_the_window_close():
    assert IdempotencyRecord.objects.update(repeat_until=timezone.now()) == 1


def test_an_unclear_end_is_repeated_with_the_same_provider_key(provider):
    fail(provider)
    assert the_record().state == "failed"
    outcome = once(provider.call)
    assert (outcome.result, outcome.replayed) == ("done", False)
    assert provider.calls == [the_record().provider_key] * 2
    assert kinds() == ["failed", "taken_over"]


def test_a_transaction_that_fails_under_the_key_leaves_it_to_be_repeated(provider):
    fail(provider)
    with pytest.raises(ZeroDivisionError):
        once(lambda: 1 / 0, Transactional())
    assert (the_record().state, the_record().policy) == ("failed", "retry")
    once(provider.call)
    assert provider.calls == [the_record().provider_key] * 2


@pytest.mark.parametrize("policy", [RETRY, MARKED])
def test_a_death_in_the_effect_is_repeated_with_the_same_provider_key(policy, provider):
    gate = Gate()

    def slow():
        if policy.marks_effect:
            current_attempt().effect_begins()
        provider.call()
        gate.pass_()

    with gate.held(lambda: once(slow, policy)) as dead:
        IdempotencyRecord.objects.update(lease_expires_at=timezone.now())
        assert once(provider.call, policy).result == "done"
        gate.open()
        assert isinstance(dead.result(), LeaseLost)
    assert provider.calls == [the_record().provider_key] * 2
    assert (the_record().state, the_record().attempt) == ("succeeded", 2)


@pytest.mark.parametrize("ended", ["raised", "died"])
def test_outside_of_the_provider_s_window_it_is_a_doubt(ended, provider):
    if ended == "raised":
        fail(provider)
    else:
        gate = Gate()
        with gate.held(lambda: once(lambda: [provider.call(), gate.pass_(), 1 / 0])) as dead:
            IdempotencyRecord.objects.update(lease_expires_at=timezone.now())
            let_the_window_close()
            with pytest.raises(InDoubt):
                once(provider.call)
            gate.open()
            assert isinstance(dead.result(), LeaseLost)
    let_the_window_close()
    with pytest.raises(InDoubt):
        once(provider.call)
    assert len(provider.calls) == 1
    assert the_record().state == "in_doubt"
    resolve(the_record().key_hash, Verdict.did_not_happen(), reason="not there")
    assert once(provider.call).result == "done"
    assert the_record().repeat_until > timezone.now() + DAY - 2 * LEASE


def test_the_window_is_counted_from_the_first_claim_less_a_lease(provider):
    fail(provider)
    first = the_record().repeat_until
    assert first - the_record().claimed_at == DAY - LEASE
    fail(provider)
    assert the_record().attempt == 2
    assert the_record().repeat_until == first


def test_a_claim_whose_effect_never_began_opens_no_window(provider):
    with pytest.raises(KeyError):
        once(lambda: provider.call(KeyError), MARKED)
    let_the_window_close()
    assert once(provider.call, MARKED).result == "done"


@pytest.mark.parametrize("how", ["before its effect", "by a refusal"])
def test_the_effect_of_an_earlier_attempt_is_not_forgotten(how, provider):
    fail(provider, MARKED)

    def refused():
        if how == "by a refusal":
            current_attempt().effect_begins()
        provider.call(KeyError)

    with pytest.raises(KeyError):
        once(refused, MARKED)
    let_the_window_close()
    with pytest.raises(InDoubt):
        once(provider.call, MARKED)


def hold(**options):
    return Leased(on_doubt=OnDoubt.HOLD, lease=LEASE, **options)


def ask(**options):
    return Leased(on_doubt=lambda doubt: Verdict.unknown(), lease=LEASE, **options)


@pytest.mark.parametrize("later", [hold, ask])
@pytest.mark.parametrize("how", ["before its effect", "dead before its effect", "by a refusal"])
def test_a_later_claim_without_an_effect_leaves_it_to_be_repeated(later, how, provider):
    fail(provider)
    policy = later(marks_effect=how != "by a refusal", no_effect_errors=(KeyError,))
    if how == "dead before its effect":
        gate = Gate()
        with gate.held(lambda: once(gate.pass_, policy)) as dead:
            IdempotencyRecord.objects.update(lease_expires_at=timezone.now())
            assert once(provider.call).result == "done"
            gate.open()
            assert isinstance(dead.result(), LeaseLost)
    else:
        with pytest.raises(KeyError):
            once(lambda: provider.call(KeyError), policy)
        assert once(provider.call).result == "done"
    assert provider.calls == [the_record().provider_key] * 2


@pytest.mark.parametrize("later", [hold, ask])
@pytest.mark.parametrize("marks_effect", [True, False])
def test_a_later_claim_is_judged_by_its_own_policy_from_its_own_effect_on(
    later, marks_effect, provider
):
    fail(provider)
    gate = Gate()

    def slow():
        if marks_effect:
            current_attempt().effect_begins()
        provider.call()
        gate.pass_()

    with gate.held(lambda: once(slow, later(marks_effect=marks_effect))):
        IdempotencyRecord.objects.update(lease_expires_at=timezone.now())
        with pytest.raises(InDoubt):
            once(provider.call)
    assert len(provider.calls) == 2


def test_a_harmless_repeat_has_no_window(provider):
    harmless = Leased(on_doubt=OnDoubt.RETRY, provider_window=None, lease=LEASE)
    fail(provider, harmless)
    assert the_record().repeat_until is None
    assert once(provider.call, harmless).result == "done"


def test_a_claim_is_judged_by_the_policy_it_was_made_under(provider):
    with pytest.raises(TimeoutError):
        once(lambda: provider.call(TimeoutError), HOLD)
    with pytest.raises(InDoubt):
        once(provider.call, RETRY)
    assert len(provider.calls) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"on_doubt": OnDoubt.RETRY},
        {"on_doubt": OnDoubt.HOLD, "provider_window": DAY},
        {"on_doubt": OnDoubt.HOLD, "provider_window": None},
    ],
)
def test_the_window_must_be_declared_where_it_counts(options):
    with pytest.raises(TypeError, match="provider_window= belongs to"):
        Leased(**options)
    with pytest.raises(ValueError, match="positive timedelta"):
        Leased(on_doubt=OnDoubt.RETRY, provider_window=timedelta(0))
