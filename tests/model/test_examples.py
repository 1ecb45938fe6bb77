"""Sequences that random ones seldom come to, as examples: the same machine, told what to do."""

import pytest

from tests.model.record import MAX_REDELIVERIES, TOLD, Ending, Policy
from tests.model.steps import TRANSACTIONAL

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "sqlite"])

POSTGRESQL = pytest.mark.parametrize("using", ["default"], ids=["postgresql"])
BOTH = pytest.mark.parametrize("using", ["default", "sqlite"], ids=["postgresql", "sqlite"])

HOLD, HOLD_MARKED, ASK = Policy("hold"), Policy("hold", marks_effect=True), Policy("ask")
RETRY = Policy("retry")
RETURNED, REFUSED, UNCLEAR = Ending("returned", TOLD), Ending("refused"), Ending("unclear")
#: Behind the end of those that there are.
NEW = 99


@pytest.fixture
def machine(new_machine):
    machine = new_machine()
    machine.declare(dict.fromkeys("ab", TRANSACTIONAL))
    yield machine
    machine.teardown()  # every state can be left


def deliver(machine, policy, ending=None, *, acts=False, nested=(), answer="truth"):
    """A new message of key "a" under a policy. Without an ending its body stays open."""
    machine.policies["a"] = policy
    return machine.deliver("a", NEW, "f", False, answer, ending, acts, nested, False)


def stop(machine, policy):
    """An attempt whose lease has run out, and which is not dead."""
    machine.policies["a"] = policy
    return machine.lapse("a", NEW, acts=False, dies=False)


@BOTH
@pytest.mark.parametrize("ending", [RETURNED, REFUSED, UNCLEAR])
def test_an_attempt_ends_no_doubt_but_its_own(machine, ending):
    first = stop(machine, HOLD_MARKED)
    deliver(machine, HOLD_MARKED, UNCLEAR, acts=True)
    assert machine.expected.records["a"].state == "in_doubt"
    machine.come_back("a")
    machine.end(first, ending, acts=False)


@BOTH
@pytest.mark.parametrize("acts", [True, False])
def test_a_mark_and_a_doubt_have_a_whole_lease_however_late_they_come(machine, acts):
    late = deliver(machine, HOLD_MARKED)
    machine.pass_time(7)
    machine.begin_effect(late)
    machine.pass_time(25 if acts else 7)
    machine.end(late, UNCLEAR, acts=acts)


@BOTH
@pytest.mark.parametrize("answer", ["happened", "did not"])
def test_nobody_asks_while_the_provider_may_be_at_work(machine, answer):
    deliver(machine, ASK, UNCLEAR, acts=True)
    deliver(machine, ASK, RETURNED, answer="truth")
    machine.sweep("truth")
    assert machine.actual.asked == []
    machine.pass_time(25)
    machine.sweep("truth")
    assert machine.actual.asked


@BOTH
@pytest.mark.parametrize("policy", [HOLD, HOLD_MARKED, RETRY, ASK])
def test_a_leased_call_inside_a_transaction_is_refused_and_leaves_nothing(machine, policy):
    deliver(machine, TRANSACTIONAL, RETURNED, nested=[("b", RETURNED, policy)])
    assert machine.expected.records.keys() == {"a"}
    assert machine.expected.records["a"].state == "succeeded"


@BOTH
def test_a_busy_call_inside_a_transaction_undoes_it_though_the_body_swallows_that(machine):
    machine.policies["b"] = HOLD
    held = machine.deliver("b", NEW, "f", False, "truth", None, False, [], False)
    deliver(machine, TRANSACTIONAL, RETURNED, acts=True, nested=[("b", RETURNED, TRANSACTIONAL)])
    assert machine.expected.records.keys() == {"b"}
    machine.end(held, RETURNED, acts=True)


@BOTH
def test_a_purge_leaves_what_a_message_waits_for(machine):
    deliver(machine, HOLD, UNCLEAR, acts=True)
    machine.allow_again("a", True)  # refused: there is a doubt
    machine.resolve("a", "truth", TOLD, False)  # and nobody can publish what waits
    machine.pass_time(241)
    machine.purge()
    assert machine.expected.records.keys() == {"a"}
    machine.sweep("truth")
    machine.purge()
    assert not machine.expected.records


@BOTH
def test_an_effect_is_repeated_until_the_window_closes_and_not_after_it(machine):
    deliver(machine, RETRY, UNCLEAR, acts=True)
    machine.pass_time(25)
    deliver(machine, RETRY, UNCLEAR, acts=True)
    machine.pass_time(25)
    deliver(machine, RETRY, RETURNED)
    assert machine.expected.records["a"].state == "in_doubt"


@BOTH
def test_who_resolves_finds_the_doubt_of_a_window_that_has_closed(machine):
    deliver(machine, RETRY, UNCLEAR, acts=True)
    machine.resolve("a", "truth", TOLD, True)
    assert machine.expected.records["a"].state == "failed"
    machine.pass_time(49)
    machine.pass_time(25)
    machine.resolve("a", "truth", TOLD, True)
    assert machine.expected.records["a"].state == "succeeded"


@BOTH
def test_a_lease_holds_until_it_runs_out_and_not_after_it(machine):
    first = deliver(machine, RETRY)
    machine.pass_time(7)
    deliver(machine, RETRY, RETURNED)
    assert first in machine.open
    assert machine.expected.records["a"].attempt == 1
    machine.pass_time(25)
    deliver(machine, RETRY, RETURNED)
    assert machine.expected.records["a"].attempt == 2
    machine.end(first, RETURNED, acts=False)


@BOTH
@pytest.mark.parametrize("redelivered", [False, True])
def test_a_transaction_that_fails_leaves_an_effect_before_it_as_it_was(machine, redelivered):
    deliver(machine, RETRY, UNCLEAR, acts=True)
    machine.policies["a"] = TRANSACTIONAL
    # It is the same message that comes again.
    machine.deliver("a", 0, "f", redelivered, "truth", UNCLEAR, False, [], False)
    record = machine.expected.records["a"]
    assert (record.state, record.policy, record.effect_begun_at) == ("failed", "retry", 0.0)
    deliver(machine, RETRY, RETURNED)


@POSTGRESQL
def test_nothing_is_committed_over_a_record_that_was_allowed_again_meanwhile(machine):
    deliver(machine, TRANSACTIONAL, UNCLEAR)
    attempt = deliver(machine, TRANSACTIONAL)
    machine.allow_again("a", True)
    machine.end(attempt, RETURNED, acts=True)
    assert machine.expected.records["a"].generation == 2


@BOTH
def test_a_failure_brings_no_forgotten_effect_back(machine):
    deliver(machine, RETRY, UNCLEAR, acts=True)
    machine.pass_time(241)
    deliver(machine, TRANSACTIONAL, UNCLEAR)
    record = machine.expected.records["a"]
    assert (record.state, record.effect_begun_at, record.policy) == ("failed", None, None)
    deliver(machine, TRANSACTIONAL, RETURNED)


@BOTH
def test_a_message_that_gave_up_waits_for_as_long_as_its_key_runs(machine):
    held = deliver(machine, RETRY)
    machine.deliver("a", NEW, "f", False, "truth", None, False, [], True)
    machine.sweep("truth")
    assert machine.expected.parked
    machine.end(held, RETURNED, acts=True)
    machine.sweep("truth")
    assert not machine.expected.parked


@BOTH
def test_nobody_resolves_what_is_running(machine):
    held = deliver(machine, HOLD)
    machine.resolve("a", "truth", TOLD, True)
    assert machine.expected.records["a"].state == "running"
    machine.end(held, RETURNED, acts=True)


@BOTH
def test_an_effect_is_not_repeated_with_other_arguments(machine):
    deliver(machine, RETRY, UNCLEAR, acts=True)
    machine.deliver("a", NEW, "g", False, "truth", RETURNED, True, [], False)
    assert machine.expected.records["a"].attempt == 1


@BOTH
def test_what_is_exhausted_does_not_run(machine):
    for _ in range(MAX_REDELIVERIES):
        machine.policies["a"] = HOLD_MARKED
        machine.lapse("a", 0, acts=False, dies=True)
    deliver(machine, HOLD_MARKED, RETURNED)
    deliver(machine, HOLD_MARKED, RETURNED)
    record = machine.expected.records["a"]
    assert (record.state, record.attempt) == ("failed", MAX_REDELIVERIES)


@BOTH
def test_no_effect_begins_under_a_lease_that_has_run_out(machine):
    late = stop(machine, HOLD_MARKED)
    machine.begin_effect(late)
    assert late not in machine.open
    assert machine.expected.records["a"].effect_begun_at is None


@BOTH
def test_a_forgotten_key_has_forgotten_its_deaths(machine):
    machine.policies["a"] = HOLD_MARKED
    machine.lapse("a", NEW, acts=False, dies=True)
    deliver(machine, HOLD_MARKED, REFUSED)
    assert machine.expected.records["a"].deaths == 1
    machine.pass_time(241)
    deliver(machine, HOLD_MARKED, REFUSED)
    assert machine.expected.records["a"].deaths is None


@BOTH
def test_a_purge_leaves_what_has_not_settled_however_old_it_is(machine):
    stop(machine, HOLD)
    machine.pass_time(241)
    machine.purge()
    assert machine.expected.records["a"].state == "running"


@BOTH
def test_the_retention_begins_at_the_end(machine):
    held = deliver(machine, HOLD)
    machine.pass_time(7)
    machine.end(held, RETURNED, acts=True)
    machine.pass_time(241 - 7)
    deliver(machine, HOLD, RETURNED)
    assert machine.expected.records["a"].attempt == 1
