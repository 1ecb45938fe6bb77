"""What is refused once the body has run."""

import contextlib
from datetime import timedelta

from django.contrib.auth.models import Group
from django.db import DatabaseError, IntegrityError, connection
from django.utils import timezone

from idempotency import Leased, OnDoubt, current_attempt, execute
from idempotency.exceptions import (
    BodyCommitted,
    EffectNotMarked,
    LeaseLost,
    NotCommitted,
    ResultNotStorable,
)
from idempotency.models import IdempotencyRecord
from tests.bad_inputs.at_import import lines, send
from tests.bad_inputs.case import HOLD, SCOPE, Moment, Refused, executed
from tests.execution.bodies import effect

MARKED = Leased(on_doubt=OnDoubt.HOLD, marks_effect=True)


def returns(value):
    def body():
        effect()
        return value

    return body


def hidden():
    """What a decorator makes of an ``async def`` when it does not say what it wraps."""
    return send(7)


def inserts_what_is_there():
    effect()
    for _ in range(2):
        Group.objects.create(name="group")


def swallows_an_error():
    effect()
    with contextlib.suppress(DatabaseError):
        connection.cursor().execute("SELECT 1/0")


def commits():
    effect()
    connection.cursor().execute("COMMIT")


def marks():
    current_attempt().effect_begins()


def loses_its_lease():
    IdempotencyRecord.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    execute(settled, key=7, scope=SCOPE, policy=MARKED)
    return "too late"


def settled():
    current_attempt().effect_begins()
    return effect()


TRANSACTIONAL = Moment(
    title="After a transactional body",
    text="All that the body did is rolled back, unless it committed by itself, and the failure is "
    "noted: a later delivery may run.",
    cases=(
        Refused(
            given="a result that is too long",
            act=executed(returns("x" * 300_000)),
            error=ResultNotStorable,
            says=(
                "the result of billing.charge takes 300,002 bytes, and MAX_RESULT_BYTES allows "
                "262,144; return less (an id, a path), raise the setting, or set "
                "store_result=False. All that the body did is rolled back."
            ),
            leaves=("failed",),
        ),
        Refused(
            given="a result that JSON cannot carry",
            act=executed(returns({"orders": {1, 2}})),
            error=ResultNotStorable,
            says=(
                "the result of billing.charge at .orders is of type set and cannot be stored; "
                "convert it to a sorted list. All that the body did is rolled back."
            ),
            leaves=("failed",),
        ),
        Refused(
            given="a coroutine as the result",
            act=executed(hidden),
            error=TypeError,
            says=(
                "The body under key … returned a coroutine, whose code has not run, and will "
                "not. Run it by async_to_sync() in the body."
            ),
            leaves=("failed",),
        ),
        Refused(
            given="a generator as the result",
            act=executed(lambda: lines(7)),
            error=ResultNotStorable,
            says=(
                "the result of billing.charge is of type generator and cannot be stored; … "
                "All that the body did is rolled back."
            ),
            leaves=("failed",),
        ),
        Refused(
            given="a row of its own that is there already",
            act=executed(inserts_what_is_there),
            error=IntegrityError,
            says='duplicate key value violates unique constraint "auth_group_name_key"…',
            do="It is the body's own error, and no duplicate of ours: mend the body.",
            leaves=("failed",),
        ),
        Refused(
            given="a database error that the body swallowed",
            act=executed(swallows_an_error),
            error=NotCommitted,
            says=(
                "A database error happened in the body and was swallowed: the server refuses to"
                " commit this transaction. Wrap what may fail in its own atomic()."
            ),
            leaves=("failed",),
        ),
        Refused(
            given="a body that commits by itself",
            act=executed(commits),
            error=BodyCommitted,
            says=(
                "The body ended our transaction by itself, so a part of its effect may stand "
                "without a record. Do not commit or switch autocommit in a transactional body."
            ),
            leaves=("failed",),
            effects=1,
        ),
        Refused(
            given="`effect_begins()` in it",
            act=executed(marks),
            error=EffectNotMarked,
            says=(
                "effect_begins() belongs to policy=Leased(...). This attempt is Transactional: "
                "its rows commit together with the record anyway."
            ),
            do="Leave it out, or declare `Leased`.",
            leaves=("failed",),
        ),
    ),
)

LEASED = Moment(
    title="After a leased body",
    text="What the body did stands, and nothing of this makes anybody repeat it blindly: an error "
    "that it raised after the effect began leaves a doubt, or under `RETRY` a failure that is "
    "repeated with the same provider key.",
    cases=(
        Refused(
            given="a result that is too long, under a lease",
            act=executed(returns("x" * 300_000), policy=HOLD),
            error=None,
            says="The result of key … of billing.charge is not stored, and cannot be replayed.",
            do="The log says why. A replay returns None: return less, or set `store_result=False`.",
            leaves=("succeeded",),
            effects=1,
        ),
        Refused(
            given="a result that JSON cannot carry, under a lease",
            act=executed(returns({"orders": {1, 2}}), policy=HOLD),
            error=None,
            says="The result of key … of billing.charge is not stored, and cannot be replayed.",
            do="The same.",
            leaves=("succeeded",),
            effects=1,
        ),
        Refused(
            given="a body that never calls `effect_begins()`, though its policy says so",
            act=executed(effect, policy=MARKED),
            error=None,
            says=(
                "The body of key … of billing.charge returned without effect_begins(), though "
                "its policy says marks_effect=True: had it died, its effect would be repeated."
            ),
            do="Call it right before the effect.",
            leaves=("succeeded",),
            effects=1,
        ),
        Refused(
            given="a coroutine as the result, under a lease",
            act=executed(hidden, policy=HOLD),
            error=TypeError,
            says=(
                "The body under key … returned a coroutine, whose code has not run, and will "
                "not. Run it by async_to_sync() in the body."
            ),
            leaves=("in_doubt",),
        ),
        Refused(
            given="`effect_begins()` without `marks_effect=True`",
            act=executed(marks, policy=HOLD),
            error=EffectNotMarked,
            says=(
                "effect_begins() needs policy=Leased(..., marks_effect=True). Without it the "
                "effect counts as begun with the claim."
            ),
            leaves=("in_doubt",),
        ),
        Refused(
            given="a lease that ran out, and another attempt has taken over",
            act=executed(loses_its_lease, policy=MARKED),
            error=LeaseLost,
            says=(
                "The lease of attempt 1 on key … of billing.charge ran out, and the claim is no"
                " longer its own: it settles nothing. See what holds now: idempotency_show …"
            ),
            leaves=("succeeded",),
            effects=1,
        ),
    ),
)
