"""A process dies in a user's test: killed where the test commits, simulated inside a TestCase."""

from datetime import timedelta

import pytest

from idempotency import Verdict
from idempotency.models import IdempotencyRecord, ParkedMessage
from idempotency.resolution import resolve
from idempotency.testing import (
    AFTER_COMMIT,
    AFTER_EFFECT,
    BEFORE_EFFECT,
    CannotDeliver,
    Message,
    SimulatedCrash,
    assert_effects,
    assert_in_doubt,
    assert_once_or_in_doubt,
    assert_succeeded,
    every_death,
    let_time_pass,
    published,
)
from idempotency.testing.deaths import Death, simulated
from idempotency.testing.watching import steps
from tests.jobs.models import Effect
from tests.testing import jobs

MOMENTS = [BEFORE_EFFECT, AFTER_EFFECT, AFTER_COMMIT]
#: Longer than any lease here.
LONG = timedelta(minutes=10)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("task", [jobs.ship, jobs.view])
def test_a_transactional_task_has_its_effect_once_whenever_its_process_dies(moment, task, either):
    message = Message(task, 7)
    message.die(moment)
    dead = moment != AFTER_COMMIT
    assert_effects(Effect.objects, expected=0 if dead else 1)
    assert IdempotencyRecord.objects.exists() is not dead
    delivered = message.deliver()
    assert delivered.replayed is not dead
    assert_effects(Effect.objects)
    assert_succeeded(message)


@pytest.mark.parametrize("moment", [BEFORE_EFFECT, AFTER_EFFECT])
def test_a_leased_task_that_dies_leaves_a_claim_and_then_a_doubt(moment, either):
    message = Message(jobs.charge, 7)
    message.die(moment)
    effects = int(moment == AFTER_EFFECT)
    assert_effects(Effect.objects, expected=effects)
    assert (message.record.state, message.record.effect_begun_at is not None) == ("running", True)
    assert message.deliver().deferred
    let_time_pass(LONG)
    assert message.deliver().parked
    assert_in_doubt(message)
    assert_once_or_in_doubt(message, effects=Effect.objects)
    assert_effects(Effect.objects, expected=effects)


@pytest.mark.parametrize(
    ("moment", "state"),
    [
        ("before claim", None),
        ("after claim", "running"),
        (BEFORE_EFFECT, "running"),
        (AFTER_EFFECT, "running"),
    ],
)
def test_a_body_that_marks_its_effect_can_be_claimed_until_it_has_begun(moment, state, either):
    message = Message(jobs.mail, 7)
    message.die(moment)
    assert (
        list(IdempotencyRecord.objects.values_list("state", flat=True)) == [state][state is None :]
    )
    let_time_pass(LONG)
    delivered = message.deliver()
    assert delivered.parked is (moment == AFTER_EFFECT)
    assert_effects(Effect.objects.filter(note="effect"))


def test_a_dead_process_tidies_nothing_up(either):
    message = Message(jobs.tidy, 7)
    message.die("after begin_effect")
    assert_effects(Effect.objects, expected=0)
    assert message.record.effect_begun_at is None  # the step is before its COMMIT


def test_a_doubt_is_made_resolved_and_its_message_delivered_again(either):
    message = Message(jobs.charge, 7)
    message.die(BEFORE_EFFECT)
    let_time_pass(LONG)
    assert message.deliver().parked
    assert Message(jobs.charge, 7).deliver().parked
    assert_in_doubt(message)
    with published() as messages:
        resolve(message.record.key_hash, Verdict.did_not_happen(), reason="not in their log")
    assert [each.id == message.id for each in messages] == [True, False]
    assert [each.deliver().replayed for each in messages] == [False, True]
    assert_effects(Effect.objects)
    assert_succeeded(message)
    assert not ParkedMessage.objects.exists()


def test_a_doubt_that_is_asked_about_ends_by_the_answer(either):
    message = Message(jobs.ask, 7)
    message.die(AFTER_EFFECT)
    let_time_pass(LONG)
    delivered = message.deliver()
    assert (delivered.replayed, delivered.result) == (True, "7 is there")
    assert_effects(Effect.objects)


def test_a_provider_gets_the_same_key_after_a_death(either):
    message = Message(jobs.call, 7)
    message.die(AFTER_EFFECT)
    let_time_pass(LONG)
    assert not message.deliver().replayed
    assert len(set(Effect.objects.values_list("note", flat=True))) == 1
    assert_effects(Effect.objects, expected=2)


def test_when_its_retention_ends_a_key_is_new(db):
    message = Message(jobs.ship, 7)
    message.deliver()
    let_time_pass(LONG)
    assert message.deliver().replayed
    let_time_pass(timedelta(days=31))
    assert not message.deliver().replayed
    assert_effects(Effect.objects, expected=2)


def test_no_death_at_any_step_repeats_a_transactional_effect(either):
    died = []
    for number, death in enumerate(every_death()):
        message = Message(jobs.ship, number)
        message.die(death)
        let_time_pass(LONG)
        message.deliver()
        assert_effects(Effect.objects.filter(key=number))
        assert_succeeded(message)
        died.append(death.struck)
    assert died.pop() is None
    last = "add_record" if either == "rolled back" else "commit_with_record"
    assert {"after lock_and_look", BEFORE_EFFECT, AFTER_EFFECT, f"after {last}"} <= set(died)
    assert died[-1] == AFTER_COMMIT


def test_no_death_at_any_step_repeats_a_leased_effect_or_hides_a_doubt(db):
    died = []
    for number, death in enumerate(every_death()):
        message = Message(jobs.charge, number)
        message.die(death)
        let_time_pass(LONG)
        message.deliver()
        assert_once_or_in_doubt(message, effects=Effect.objects.filter(key=number))
        died.append(death.struck)
    assert {"after claim", BEFORE_EFFECT, AFTER_EFFECT, "before succeed", AFTER_COMMIT} <= set(died)


def test_the_steps_are_those_of_the_storage():
    assert {"lock_and_look", "commit_with_record", "add_record", "claim", "begin_effect"} <= set(
        steps()
    )
    assert {"note_start", "fail", "succeed", "leave_in_doubt", "renew"} <= set(steps())
    assert not {"transaction", "is_idle", "connection", "refuse_foreign_transaction"} & set(steps())


def test_a_moment_that_does_not_exist_is_refused_with_those_that_do(db):
    with pytest.raises(ValueError, match=r"no moment 'after settle'.*after succeed"):
        Message(jobs.ship, 7).die("after settle")


def test_a_moment_to_which_the_task_does_not_come_is_told(either):
    with pytest.raises(CannotDeliver, match="ended before it came to 'after claim'"):
        Message(jobs.ship, 7).die("after claim")


def test_a_death_that_nothing_is_delivered_to_is_told(db):
    with pytest.raises(CannotDeliver, match="Nothing was delivered"):
        list(every_death())


def test_the_plugin_runs_a_test_for_each_moment(moment_of_death, db):
    message = Message(jobs.ship, 7)
    message.die(moment_of_death)
    message.deliver()
    assert_effects(Effect.objects)


def test_a_task_that_dies_after_the_commit_has_done_all_of_it(either):
    message = Message(jobs.part, 7)
    message.die(AFTER_COMMIT)
    assert not message.deliver().replayed
    assert_effects(Effect.objects.filter(note="effect"))
    assert_effects(Effect.objects.filter(note="unprotected"), expected=2)


@pytest.mark.parametrize("moment", [BEFORE_EFFECT, AFTER_COMMIT])
def test_a_task_whose_message_a_death_would_lose_is_told_of(moment, either):
    with pytest.raises(CannotDeliver, match=r"idempotency\.W001.*acks_late=True"):
        Message(jobs.early, 7).die(moment)
    assert_effects(Effect.objects, expected=0)


# -- a simulated death ------------------------------------------------------------------------


def test_what_catches_everything_does_not_survive_its_simulated_death(db):
    for number, death in enumerate(every_death()):
        message = Message(jobs.stubborn, number)
        message.die(death)
        message.deliver()
        assert message.record.result == f'"effect of {number}"'
        assert_effects(Effect.objects.filter(key=number))
    assert jobs.caught == []


def test_after_a_simulated_death_no_statement_is_sent_but_rollbacks(db):
    with simulated(death := Death(BEFORE_EFFECT)) as meet:
        Effect.objects.create(key="alive", pid=0)
        with pytest.raises(SimulatedCrash):
            meet(BEFORE_EFFECT)
        with pytest.raises(SimulatedCrash):
            Effect.objects.create(key="dead", pid=0)
        with pytest.raises(SimulatedCrash):
            meet("before fail")
    assert death.struck == BEFORE_EFFECT
    assert_effects(Effect.objects)


def test_a_death_under_a_savepoint_leaves_the_tests_own_rows(db):
    Effect.objects.create(key="the test's own", pid=0)
    Message(jobs.ship, 7).die(AFTER_EFFECT)
    assert Effect.objects.get().key == "the test's own"
