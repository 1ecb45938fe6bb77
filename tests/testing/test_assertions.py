"""A failed assertion says what is, what it means, and where to look."""

from datetime import timedelta

import pytest

from idempotency import Verdict
from idempotency.resolution import resolve
from idempotency.testing import (
    AFTER_EFFECT,
    BEFORE_EFFECT,
    Message,
    assert_effects,
    assert_failed,
    assert_in_doubt,
    assert_once_or_in_doubt,
    assert_succeeded,
    let_time_pass,
    published,
)
from tests.jobs.models import Effect
from tests.testing import jobs

pytestmark = pytest.mark.django_db


def says(*texts):
    """The message of the AssertionError holds all of these, in this order."""
    return pytest.raises(AssertionError, match="(?s)" + ".*".join(texts))


def delivered(task, *arguments):
    message = Message(task, *arguments)
    message.deliver()
    return message


def in_doubt():
    message = Message(jobs.charge, 7)
    message.die(AFTER_EFFECT)
    let_time_pass(timedelta(minutes=10))
    message.deliver()
    return message


def test_a_record_in_another_state_is_told_with_its_error_and_what_comes_next():
    message = delivered(jobs.ship, 7, True)
    with says(
        r"The record of tests.testing.jobs.ship\(7, True\) is failed, not succeeded.",
        "delivery 1: raised: ValueError: no such street",
        "state +failed",
        "error_message +no such street",
        "event .* failed .* ValueError",
        "next +The next delivery runs.",
    ):
        assert_succeeded(message)


def test_no_record_is_told_with_what_that_means():
    message = Message(jobs.ship, 7)
    message.die(AFTER_EFFECT)
    for assertion in (assert_succeeded, assert_failed, assert_in_doubt):
        with says("is not there, not", "died after the effect", "There is no record of key"):
            assertion(message)
    with says("There is no record of", "died inside its transaction leaves nothing"):
        message.record  # noqa: B018 it raises


def test_a_message_that_was_never_delivered_is_told():
    with says("It has no key yet"):
        assert_succeeded(Message(jobs.ship, 7))


def test_a_doubt_is_told_with_who_has_to_act():
    message = in_doubt()
    assert_in_doubt(message)
    with says("is in doubt, not succeeded", "parked", "waits until somebody says what happened"):
        assert_succeeded(message)


def test_too_many_effects_are_told_with_all_that_was_delivered():
    delivered(jobs.ship, 7)
    delivered(jobs.ship, 8)
    with says(
        "There are 2 effects, and 1 should be there",
        "whether two keys were one effect",
        r"The story of tests.testing.jobs.ship\(7\)",
        r"The story of tests.testing.jobs.ship\(8\)",
    ):
        assert_effects(Effect.objects)


def test_a_missing_effect_is_told():
    delivered(jobs.ship, 7, True)
    with says("There are 0 effects, and 1 should", "whether the body ran at all", "no such street"):
        assert_effects(Effect.objects.all())


@pytest.mark.parametrize(
    ("effects", "expected"),
    [
        *[(each, 2) for each in (2, [7, 8], {7: 1, 8: 2}, lambda: 2, lambda: [7, 8])],
        (Effect.objects.none, 0),
    ],
)
def test_effects_are_what_can_be_counted(effects, expected):
    assert_effects(effects, expected=expected)
    with says(f"There are {expected} effects, and 1 should be there"):
        assert_effects(effects)


@pytest.mark.parametrize("effects", [0, 1])
def test_at_most_once_and_in_doubt_is_what_was_promised(effects):
    assert_once_or_in_doubt(in_doubt(), effects=effects)


def test_twice_is_not_what_was_promised_be_it_in_doubt_or_not():
    with says("2 effects of .* is in doubt: neither once and known, nor in doubt"):
        assert_once_or_in_doubt(in_doubt(), effects=2)
    with says("2 effects of .* is succeeded"):
        assert_once_or_in_doubt(delivered(jobs.charge, 8), effects=2)


def test_an_effect_that_is_missing_without_a_doubt_is_not_what_was_promised():
    with says("0 effects of .* is succeeded"):
        assert_once_or_in_doubt(delivered(jobs.charge, 7), effects=0)
    message = Message(jobs.charge, 8)
    message.die(BEFORE_EFFECT)
    with says("0 effects of .* is running"):
        assert_once_or_in_doubt(message, effects=0)


def test_the_story_holds_what_was_resolved():
    message = in_doubt()
    with published():
        resolve(message.record.key_hash, Verdict.did_not_happen(), reason="not in their log")
    with says("is failed, not in doubt", "It did not happen, said by somebody: not in their log"):
        assert_in_doubt(message)
