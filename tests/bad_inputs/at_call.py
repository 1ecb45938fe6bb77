"""What is refused before the body runs."""

import asyncio

from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import connection, transaction
from django.db.models.functions import Now

from idempotency import Transactional, current_attempt, execute
from idempotency.attempts import Delivery
from idempotency.calls import Call
from idempotency.digests import digest
from idempotency.exceptions import (
    AlreadyRunning,
    Exhausted,
    InDoubt,
    InsideTransaction,
    KeyNested,
    KeyReused,
    ManualCommit,
    NoAttempt,
    ResultUnreadable,
    ShardUnknown,
)
from idempotency.execution import run
from idempotency.models import IdempotencyRecord
from tests.bad_inputs.at_import import lines, send
from tests.bad_inputs.case import HOLD, SCOPE, Moment, Refused, called, executed, within
from tests.execution.bodies import effect, renamed


class Message(Delivery):
    """Of Celery, say."""

    task_id = "4f1c"


def in_an_event_loop():
    async def view():
        execute(effect, key=7, scope=SCOPE)

    asyncio.run(view())


def in_a_transaction(**options):
    def act():
        with transaction.atomic():
            execute(effect, key=7, scope=SCOPE, **options)

    return act


def in_manual_commit():
    connection.set_autocommit(False)
    try:
        execute(effect, key=7, scope=SCOPE)
    finally:
        connection.rollback()
        connection.set_autocommit(True)


def without_tables():
    with renamed("idempotency_record"):
        execute(effect, key=7, scope=SCOPE)


def used_for_something_else():
    key = digest(7, scope=SCOPE, fingerprint={"amount": "hunter2"})
    run(Call(function=effect, key=key, policy=Transactional(), delivery=Message()))
    execute(effect, key=7, scope=SCOPE, fingerprint={"amount": "5.00"})


def in_doubt():
    def body():
        effect()
        raise TimeoutError

    try:
        execute(body, key=7, scope=SCOPE, policy=HOLD)
    except TimeoutError:
        execute(effect, key=7, scope=SCOPE, policy=HOLD)


def exhausted():
    execute(int, key=7, scope=SCOPE)
    IdempotencyRecord.objects.update(state="failed", result=None, deaths=10, exhausted_at=Now())
    execute(effect, key=7, scope=SCOPE)


def damaged():
    execute(int, key=7, scope=SCOPE)
    IdempotencyRecord.objects.update(result="[1")
    execute(effect, key=7, scope=SCOPE)


def transactional(body):
    execute(body, key=7, scope=SCOPE)


def leased(body):
    execute(body, key=7, scope=SCOPE, policy=HOLD)


CALL = Moment(
    title="At the call: what it is, and where",
    text="The body did not run, and no record of it is left.",
    cases=(
        Refused(
            given="arguments that do not fit",
            act=called(),
            error=TypeError,
            says=(
                "charge(order_id, amount, **more): missing a required argument: 'order_id'. "
                "Nothing was run."
            ),
            do="Mend the caller; `.delay()` refuses them earlier.",
        ),
        Refused(
            given="a callable for `using=` that returns no text",
            act=called(7, using=lambda order_id, **more: None),
            error=ShardUnknown,
            says=(
                "billing.charge: using (as the callable returned it) is of type NoneType, and no "
                "database alias. Nothing was run. Let it return an alias for every call."
            ),
        ),
        Refused(
            given="a callable for `using=` that returns an alias which is not there",
            act=called(7, using=lambda order_id, **more: "nowhere"),
            error=ShardUnknown,
            says=(
                "billing.charge: using (as the callable returned it) is 'nowhere', which is no "
                "database alias in this process. Nothing was run. Add it to DATABASES, or return "
                "another."
            ),
        ),
        Refused(
            given="`execute()` of an `async def`",
            act=executed(send, policy=HOLD),
            error=TypeError,
            says=(
                "async def send cannot run here: Celery does not await it, and Django's "
                "transactions are synchronous. Make it a plain function."
            ),
        ),
        Refused(
            given="`execute()` of a generator",
            act=executed(lines, policy=HOLD),
            error=TypeError,
            says="The generator lines cannot run here: calling it runs nothing. Return a list.",
        ),
        Refused(
            given="`execute()` in an event loop",
            act=in_an_event_loop,
            error=SynchronousOnlyOperation,
            says="You cannot call this from an async context - use a thread or sync_to_async.",
        ),
        Refused(
            given='`scope=""`',
            act=executed(scope=""),
            error=TypeError,
            says=(
                "scope must be a printable text that is not empty, such as 'billing.charge'; "
                "got ''."
            ),
        ),
        Refused(
            given="`wait=` as a number",
            act=executed(wait=5),
            error=ValueError,
            says="wait must be a timedelta, got 5 (int).",
        ),
        Refused(
            given="a lease inside of `atomic()`",
            act=in_a_transaction(policy=HOLD),
            error=InsideTransaction,
            says=(
                "A transaction is open on 'default' already, so record and effect would be "
                "committed or lost with it. Call this outside of atomic() (for a view under "
                "ATOMIC_REQUESTS: @transaction.non_atomic_requests)."
            ),
        ),
        Refused(
            given="a transactional call inside of `atomic()`",
            act=in_a_transaction(),
            error=InsideTransaction,
            says=(
                "A transaction is open on 'default' already, so record and effect would be "
                "committed or lost with it. Call this outside of atomic() (for a view under "
                "ATOMIC_REQUESTS: @transaction.non_atomic_requests)."
            ),
        ),
        Refused(
            given="a connection in manual commit mode",
            act=in_manual_commit,
            error=ManualCommit,
            says=(
                "The connection 'default' is in manual commit mode (AUTOCOMMIT is False), so "
                "nothing would be committed here. Switch autocommit on."
            ),
        ),
        Refused(
            given="a database that was not migrated",
            act=without_tables,
            error=ImproperlyConfigured,
            says=(
                "A table of the app idempotency is missing in the database 'default', so "
                "nothing was run. Make it: manage.py migrate idempotency --database default"
            ),
        ),
        Refused(
            given="`current_attempt()` outside of a body",
            act=current_attempt,
            error=NoAttempt,
            says=(
                "No attempt is running here: current_attempt() works inside the body of a "
                "function under @idempotent, or of one called by execute(), and in the same "
                "thread."
            ),
        ),
    ),
)

RECORD = Moment(
    title="At the call: what is known of its key",
    text="The body did not run, and the record is as it was.",
    cases=(
        Refused(
            given="a key that was used for something else",
            act=used_for_something_else,
            error=KeyReused,
            says=(
                "The key … of billing.charge was used with other arguments at … by message "
                "4f1c, so the body did not run. Use another key for another effect, or leave "
                "out of fingerprint= what may differ."
            ),
            leaves=("succeeded",),
            effects=1,
        ),
        Refused(
            given="a key that is running",
            act=within(leased, lambda: leased(effect)),
            error=AlreadyRunning,
            says=(
                "The key … of billing.charge is running in another attempt; the body did not "
                "run here. Its lease runs out in … s, unless renewed. Try again later."
            ),
            leaves=("succeeded",),
        ),
        Refused(
            given="a key that is running further up the stack",
            act=within(transactional, lambda: transactional(effect)),
            error=KeyNested,
            says=(
                "The key … of billing.charge is running already, further up this call stack, "
                "and would wait for itself. Give the inner call a key or a scope of its own."
            ),
            leaves=("succeeded",),
        ),
        Refused(
            given="a key in doubt",
            act=in_doubt,
            error=InDoubt,
            says=(
                "The key … of billing.charge is in doubt: attempt 1 stopped between its effect "
                "and its record, and nothing runs until it is resolved. Look at the other side,"
                " then say what happened: idempotency_resolve …"
            ),
            leaves=("in_doubt",),
            effects=1,
        ),
        Refused(
            given="a key whose attempts have died too often",
            act=exhausted,
            error=Exhausted,
            says=(
                "The key … of billing.charge is exhausted: 10 attempts died. The body did not "
                "run, and no delivery will run it. Find out what kills it, then allow it again:"
                " idempotency_allow_again …"
            ),
            leaves=("failed",),
        ),
        Refused(
            given="a stored result that is damaged",
            act=damaged,
            error=ResultUnreadable,
            says=(
                "the stored result cannot be read (JSONDecodeError): it was damaged, or written"
                " by a later version. The body did not run again. Deploy that version, or allow"
                " the key again."
            ),
            leaves=("succeeded",),
        ),
    ),
)
