"""The situations that are explored, by name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from psycopg import IsolationLevel

from idempotency import Leased, OnDoubt, Transactional
from idempotency import transactional as transactional_run
from idempotency.exceptions import InDoubt
from idempotency.keys import Key
from idempotency.models import IdempotencyRecord
from tests.interleavings import acts, oracles
from tests.interleavings.actors import CUTS, DEATH, DEATHS
from tests.interleavings.situation import Act, Check, Scene, Situation
from tests.jobs.models import Effect

#: The number of whoever delivered before the schedule.
BEFORE = 99


def varied(situation: Situation, how: str, **different: Any) -> Situation:
    """The same with a difference."""
    return replace(situation, name=f"{situation.name}-{how}", **different)


# -- what is different ------------------------------------------------------------------------


@contextmanager
def repeatable_read() -> Iterator[None]:
    """As a project says it, in the OPTIONS of its database."""
    with pytest.MonkeyPatch.context() as patch:
        options = connection.settings_dict["OPTIONS"]
        patch.setitem(options, "isolation_level", IsolationLevel.REPEATABLE_READ)
        yield


@contextmanager
def no_locks() -> Iterator[None]:
    """An engine whose advisory locks exclude nobody: the unique key stands alone."""
    numbers = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Key, "lock_numbers", property(lambda key: (next(numbers),)))
        yield


@contextmanager
def no_grace() -> Iterator[None]:
    """A start note is over as soon as it is made: to let it run out later would write its row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transactional_run, "GRACE", timedelta(0))
        yield


# -- what was before --------------------------------------------------------------------------


def it_failed(scene: Scene) -> None:
    with pytest.raises(ValueError, match="the job failed"):
        FAILS(scene, BEFORE)


def it_is_forgotten(scene: Scene) -> None:
    WRITES(scene, BEFORE)
    Effect.objects.all().delete()
    IdempotencyRecord.objects.update(expires_at="2000-01-01T00:00Z")


# -- Transactional ----------------------------------------------------------------------------

WRITES = acts.Deliver(policy=Transactional(), body=acts.write)
FAILS = acts.Deliver(policy=Transactional(), body=acts.write_and_fail)
NOTED = replace(WRITES, redelivered=True)
LAPSE = acts.let_the_lease_run_out


def transactional(name: str, *who: Act, **options: Any) -> Situation:
    return _situation(
        f"transactional-{name}", who, check=oracles.rows_and_record_are_one, **options
    )


def _situation(name: str, who: tuple[Act, ...], **options: Any) -> Situation:
    deliveries = sum(isinstance(act, acts.Deliver) for act in who)
    return Situation(name=name, acts=who, deliveries=deliveries, **options)


TWO = transactional("two", WRITES, WRITES)
THREE = transactional("three", WRITES, WRITES, WRITES, preemptions=2)
REDELIVERED = transactional("redelivered", NOTED, NOTED, LAPSE, preemptions=2, may_defer_all=True)
UNLOCKED = transactional("without-locks", WRITES, WRITES, around=(no_locks,))
TRANSACTIONAL = (
    replace(TWO, all_points=True),
    varied(TWO, "deaths", faults=DEATHS, all_points=True),
    varied(TWO, "cuts", faults=CUTS),
    varied(TWO, "after-a-failure", before=it_failed),
    transactional("one-fails", FAILS, WRITES, error=ValueError, last=1),
    transactional(
        "forgotten-and-purge", WRITES, WRITES, acts.purge_forgotten,
        before=it_is_forgotten, preemptions=1,
    ),
    THREE,
    REDELIVERED,
    varied(REDELIVERED, "deaths", faults=DEATH, preemptions=0),
    UNLOCKED,
    varied(UNLOCKED, "deaths", faults=DEATH),
    varied(UNLOCKED, "cuts", faults=CUTS, preemptions=0),
    varied(UNLOCKED, "after-a-failure", before=it_failed),
    varied(UNLOCKED, "forgotten", before=it_is_forgotten),
    varied(THREE, "without-locks", around=(no_locks,)),
)  # fmt: skip

# -- Leased -----------------------------------------------------------------------------------

HOLD = Leased(on_doubt=OnDoubt.HOLD, lease=acts.DAY)
HOLD_MARKED = replace(HOLD, marks_effect=True)
RETRY = Leased(on_doubt=OnDoubt.RETRY, provider_window=None, lease=acts.DAY)
RETRY_MARKED = replace(RETRY, marks_effect=True)

HELD = acts.Deliver(policy=HOLD, body=acts.send)
HELD_MARKED = acts.Deliver(policy=HOLD_MARKED, body=acts.mark_and_send)
DYING = acts.Deliver(policy=HOLD_MARKED, body=acts.mark_send_and_die)
UNCLEAR = acts.Deliver(policy=HOLD_MARKED, body=acts.send_and_hear_nothing)
ASKED = acts.Deliver(policy=acts.asks, body=acts.mark_and_send)
REPEATED = acts.Deliver(policy=RETRY, body=acts.send)
REPEATED_MARKED = acts.Deliver(policy=RETRY_MARKED, body=acts.mark_and_send)
SETTLED = acts.Deliver(policy=HOLD_MARKED, body=acts.mark_and_settle)
SETTLED_REPEATED = acts.Deliver(policy=RETRY, body=acts.send_and_settle)


def leased(name: str, *who: Act, check: Check = oracles.held, **options: Any) -> Situation:
    """With a lease that runs out at any point."""
    return _situation(name, (*who, LAPSE), check=check, **{"preemptions": 2} | options)


def resolved(name: str, *who: Act, **options: Any) -> Situation:
    """Somebody says of a doubt what the provider knows."""
    reaches = frozenset({oracles.SECOND_EFFECT})
    return leased(name, *who, reaches=reaches, **{"preemptions": 1} | options)


def retried(name: str, *who: Act, **options: Any) -> Situation:
    return leased(name, *who, check=oracles.repeated_with_one_key, **options)


def settled(name: str, *who: Act, **options: Any) -> Situation:
    return leased(name, *who, check=oracles.settled_rows_are_fenced, **options)


HOLD_TWO = leased("hold", HELD, HELD)
MARKED_TWO = leased("hold-marked", HELD_MARKED, HELD_MARKED)
MARKED_OPERATOR = resolved("hold-marked-operator", HELD_MARKED, HELD_MARKED, acts.look_and_resolve)
RETRY_TWO = retried("retry", REPEATED, REPEATED, preemptions=1)
RETRY_MARKED_TWO = retried("retry-marked", REPEATED_MARKED, REPEATED_MARKED, preemptions=1)
LEASED = (
    HOLD_TWO,
    MARKED_TWO,
    varied(HOLD_TWO, "deaths", faults=DEATH, preemptions=1),
    varied(MARKED_TWO, "deaths", faults=DEATH, preemptions=1),
    leased("hold-marked-dying", DYING, HELD_MARKED, last=1),
    varied(HOLD_TWO, "cuts", faults=CUTS, preemptions=0),
    varied(MARKED_TWO, "cuts", faults=CUTS, preemptions=0),
    varied(MARKED_TWO, "without-locks", around=(no_locks,), preemptions=1),
    leased("hold-marked-three", HELD_MARKED, HELD_MARKED, HELD_MARKED, preemptions=1),
    resolved("hold-operator", HELD, HELD, acts.look_and_resolve),
    MARKED_OPERATOR,
    varied(MARKED_OPERATOR, "deaths", faults=DEATH, preemptions=0, reaches=frozenset()),
    resolved(
        "hold-unclear-operator", UNCLEAR, HELD_MARKED, acts.look_and_resolve,
        error=TimeoutError, last=1,
    ),
    leased("hold-marked-sweeper", HELD_MARKED, HELD_MARKED, acts.sweep_up, preemptions=1),
    leased(
        "hold-marked-release", HELD_MARKED, HELD_MARKED, acts.release_the_dead, preemptions=1,
    ),
    # Two preemptions: in the 432 schedules with one, no renewal comes between look and take-over.
    leased("hold-marked-renewal", HELD_MARKED, HELD_MARKED, acts.renew),
    resolved("ask", ASKED, ASKED),
    resolved("ask-sweeper", ASKED, ASKED, acts.sweep_up),
    RETRY_TWO,
    RETRY_MARKED_TWO,
    varied(RETRY_TWO, "deaths", faults=DEATH, preemptions=1),
    varied(RETRY_MARKED_TWO, "deaths", faults=DEATH, preemptions=1),
    varied(RETRY_MARKED_TWO, "cuts", faults=CUTS, preemptions=0),
    retried("retry-three", REPEATED, REPEATED, REPEATED, preemptions=1),
    settled("settling", SETTLED, SETTLED, preemptions=1),
    settled("settling-retry", SETTLED_REPEATED, SETTLED_REPEATED, preemptions=1),
)  # fmt: skip

# -- several policies under one key, and what is allowed again --------------------------------


def it_was_unclear(scene: Scene) -> None:
    with pytest.raises(TimeoutError):
        acts.Deliver(policy=RETRY, body=acts.send_and_hear_nothing_of_it)(scene, BEFORE)
    scene.outside.clear()  # it is to be repeated


def mixed(name: str, *who: Act, **options: Any) -> Situation:
    check = oracles.once_for_each_time_it_was_allowed
    return _situation(name, who, check=check, **{"preemptions": 1} | options)


def it_was_unclear_for_a_while(scene: Scene) -> None:
    policy = replace(RETRY, provider_window=2 * acts.DAY)
    with pytest.raises(TimeoutError):
        acts.Deliver(policy=policy, body=acts.send_and_hear_nothing_of_it)(scene, BEFORE)
    scene.outside.clear()


def held_by_its_lock(name: str, *who: Act, **options: Any) -> Situation:
    """A transaction under a key whose effect may not be repeated any more, at any point."""
    return _situation(
        f"held-by-its-lock-{name}", (*who, acts.let_the_window_close), preemptions=1,
        check=oracles.no_body_runs_in_vain, before=it_was_unclear_for_a_while,
        around=(no_grace,), error=InDoubt, **options,
    )  # fmt: skip


RUNS = acts.Deliver(policy=Transactional(), body=acts.run_and_write)
RUNS_NOTED = replace(RUNS, redelivered=True)
AGAIN = acts.want_it_once_more
MIXED = (
    mixed("mixed", WRITES, HELD_MARKED, LAPSE),
    mixed("mixed-without-locks", WRITES, HELD_MARKED, LAPSE, around=(no_locks,)),
    mixed("mixed-deaths", WRITES, HELD_MARKED, LAPSE, faults=DEATH),
    mixed("mixed-one-fails", FAILS, HELD_MARKED, LAPSE, error=ValueError, last=1),
    mixed("mixed-repeated", WRITES, REPEATED, before=it_was_unclear, preemptions=2),
    mixed("allowed-again", WRITES, WRITES, AGAIN),
    mixed("allowed-again-after-a-failure", WRITES, WRITES, AGAIN, before=it_failed),
    mixed("allowed-again-held", HELD_MARKED, HELD_MARKED, AGAIN),
    mixed("allowed-again-mixed", HELD, WRITES, AGAIN),
    held_by_its_lock("delivery", RUNS, RUNS),
    held_by_its_lock("noted-delivery", RUNS_NOTED, RUNS),
    held_by_its_lock("noted-operator", RUNS_NOTED, acts.look_and_resolve),
    held_by_its_lock("noted-sweeper", RUNS_NOTED, acts.sweep_up),
)

# -- REPEATABLE READ --------------------------------------------------------------------------

OLD, NEW = (replace(HELD, secrets=secrets) for secrets in (("old", "new"), ("new", "old")))

REPEATABLE = tuple(
    varied(situation, "repeatable-read", around=(*situation.around, repeatable_read))
    for situation in (
        TWO,
        varied(TWO, "deaths", faults=DEATH),
        varied(TWO, "after-a-failure", before=it_failed),
        replace(REDELIVERED, preemptions=1),
        UNLOCKED,
        varied(UNLOCKED, "after-a-failure", before=it_failed),
        replace(HOLD_TWO, preemptions=1),
        replace(MARKED_TWO, preemptions=1),
        varied(MARKED_TWO, "deaths", faults=DEATH, preemptions=0),
        varied(MARKED_TWO, "cuts", faults=CUTS, preemptions=0),
        RETRY_TWO,
        leased("hold-in-a-rotation", OLD, NEW, preemptions=1),
        MARKED_OPERATOR,
        settled("settling", SETTLED, SETTLED, preemptions=1),
    )
)

SITUATIONS = {s.name: s for s in (*TRANSACTIONAL, *LEASED, *MIXED, *REPEATABLE)}
