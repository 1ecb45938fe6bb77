"""Assertions that tell, when they fail, what happened to the messages."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any

from django.db.models import Manager, QuerySet

from idempotency.states import State
from idempotency.testing.messages import Message, recent_stories
from idempotency.testing.records import records_of, story_of

#: What can be counted: rows, a list such as ``mail.outbox``, or what returns one of these.
Effects = QuerySet[Any] | Manager[Any] | Sized | int


def assert_succeeded(message: Message) -> None:
    """The record says that the effect happened, and answers every duplicate.

    Raises:
        AssertionError: It says something else, or there is none.
    """
    _assert_state(message, State.SUCCEEDED)


def assert_failed(message: Message) -> None:
    """The record says that nothing of an attempt stands: the next delivery runs the body.

    Raises:
        AssertionError: It says something else, or there is none.
    """
    _assert_state(message, State.FAILED)


def assert_in_doubt(message: Message) -> None:
    """The record is in doubt, and so visible: nothing runs until somebody resolves it.

    Raises:
        AssertionError: It says something else, or there is none.
    """
    _assert_state(message, State.IN_DOUBT)


def assert_effects(effects: Effects | Callable[[], Effects], *, expected: int = 1) -> None:
    """There are as many effects as expected.

    Args:
        effects: A queryset, a manager, a list such as ``mail.outbox``, a number, or a function
            that returns one of these.

    Raises:
        AssertionError: There are more or fewer; the messages last delivered tell why.
    """
    number = _count(effects)
    if number != expected:
        raise AssertionError(
            f"There are {number} effects, and {expected} should be there.\n{_meaning(number)}\n"
            f"{recent_stories()}"
        )


def assert_once_or_in_doubt(message: Message, *, effects: Effects | Callable[[], Effects]) -> None:
    """The effect is there once and its record says so, or it is there at most once and a doubt
    is visible: what ``Leased(on_doubt=OnDoubt.HOLD)`` promises of any death.

    Raises:
        AssertionError: It is there more than once, or nothing tells that it may be missing.
    """
    number, state = _count(effects), _state(message)
    if (number == 1 and state == State.SUCCEEDED) or (number <= 1 and state == State.IN_DOUBT):
        return
    raise AssertionError(
        f"There are {number} effects of {message}, and its record is {_said(state)}: neither once "
        f"and known, nor in doubt.\n{_meaning(number)}\n{story_of(message)}"
    )


def _assert_state(message: Message, expected: State) -> None:
    state = _state(message)
    if state != expected:
        raise AssertionError(
            f"The record of {message} is {_said(state)}, not {expected.words}.\n{story_of(message)}"
        )


def _state(message: Message) -> str | None:
    return records_of(message).values_list("state", flat=True).first()


def _said(state: str | None) -> str:
    return "not there" if state is None else State(state).words


def _count(effects: Effects | Callable[[], Effects]) -> int:
    if isinstance(effects, QuerySet | Manager):
        return effects.count()
    if isinstance(effects, int):
        return effects
    if isinstance(effects, Sized):
        return len(effects)
    return _count(effects())


def _meaning(number: int) -> str:
    if number > 1:
        return (
            "Some delivery repeated it. Look whether two keys were one effect, whether the effect "
            "is outside of the database or on another connection (then it needs Leased), or "
            "whether the body commits by itself."
        )
    return (
        "It is missing, or there is another one. Look whether the body ran at all, whether it was "
        "rolled back (an error in an event below), or whether the key was used before."
    )
