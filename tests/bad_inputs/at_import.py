"""What is refused when a module is imported."""

import functools
from datetime import timedelta

from celery import shared_task

from idempotency import ALL_ARGUMENTS, TASK_ID, Leased, OnDoubt, idempotent
from tests.bad_inputs.case import HOLD, Moment, Refused, charge, declared
from tests.execution.bodies import effect


async def send(order_id):
    """Nobody awaits it."""


def lines(order_id):
    yield effect()


def plain(order_id):
    effect()


def bound(self, order_id):
    effect()


def by_customer(order_id, customer):
    return customer


def variadic(*args):
    effect()


def nothing():
    effect()


def clash(a, /, **more):
    effect()


def leased(**options):
    """An act: declare the policy."""
    return lambda: Leased(**{"on_doubt": OnDoubt.HOLD} | options)


IMPORT = Moment(
    title="When the module is imported",
    text="A decorator or a policy that cannot keep its promise stops the import.",
    cases=(
        Refused(
            given="`@idempotent` above `@shared_task`",
            act=lambda: declared(shared_task(charge)),
            error=TypeError,
            says=(
                "@idempotent on charge was given a Proxy, not a function. On a task, swap the "
                "two decorators: it stands below @shared_task and @task."
            ),
        ),
        Refused(
            given="`@idempotent` on something that is no function",
            act=lambda: declared(functools.partial(charge, 7)),
            error=TypeError,
            says=(
                "@idempotent on partial was given a partial, not a function. On a task, swap "
                "the two decorators: it stands below @shared_task and @task."
            ),
            do="Decorate a function.",
        ),
        Refused(
            given="`@idempotent` twice",
            act=lambda: declared(declared()),
            error=TypeError,
            says="@idempotent was applied twice to charge. Keep one.",
        ),
        Refused(
            given="a bare `@idempotent`",
            act=lambda: idempotent(charge),
            error=TypeError,
            says=(
                "charge(order_id, amount, **more): key= cannot be None. Say what makes two "
                "deliveries the same effect: a path into the arguments ('order_id', "
                "'event.detail.id'), a tuple of paths (('tenant_id', 'order_id')), a callable "
                "that takes the same arguments, ALL_ARGUMENTS or TASK_ID."
            ),
        ),
        Refused(
            given="a key that is a list",
            act=lambda: declared(key=["order_id"]),
            error=TypeError,
            says=(
                "charge(order_id, amount, **more): key= cannot be list. Say what makes two "
                "deliveries the same effect: a path into the arguments ('order_id', "
                "'event.detail.id'), a tuple of paths (('tenant_id', 'order_id')), a callable "
                "that takes the same arguments, ALL_ARGUMENTS or TASK_ID."
            ),
        ),
        Refused(
            given="a path to a parameter that is not there",
            act=lambda: declared(plain, key="order"),
            error=TypeError,
            says="plain(order_id) has no parameter 'order'. Did you mean 'order_id'?",
        ),
        Refused(
            given="a path with an empty part",
            act=lambda: declared(key="order_id."),
            error=TypeError,
            says=(
                "charge(order_id, amount, **more): path 'order_id.' has an empty part; write "
                "'order_id' or 'event.detail.id'."
            ),
        ),
        Refused(
            given="a path into a task's `self`",
            act=lambda: declared(bound, key="self.request.id"),
            error=TypeError,
            says=(
                "bound(order_id): path 'self.request.id': 'self' is the task object, which is "
                "never part of a key."
            ),
        ),
        Refused(
            given="a name where the function has `*args` only",
            act=lambda: declared(variadic),
            error=TypeError,
            says="variadic(*args) has no parameter 'order_id'.",
            do="Name the parameter, or give `key=` a callable.",
        ),
        Refused(
            given="`ALL_ARGUMENTS` of a function without any",
            act=lambda: declared(nothing, key=ALL_ARGUMENTS),
            error=TypeError,
            says=(
                "nothing() has no arguments, so ALL_ARGUMENTS would make all its calls one. "
                "Give it an argument that tells one effect from the next."
            ),
        ),
        Refused(
            given="a callable that does not take the arguments",
            act=lambda: declared(plain, key=by_customer),
            error=TypeError,
            says=(
                "by_customer cannot take the arguments of plain(order_id): missing a required "
                "argument: 'customer'. Give it the same parameters (without 'self')."
            ),
        ),
        Refused(
            given="`using=` that is a number",
            act=lambda: declared(using=7),
            error=TypeError,
            says=(
                "using= must be a database alias, or a callable that takes the same arguments and "
                "returns one, got 7."
            ),
        ),
        Refused(
            given="a callable for `using=` that does not take the arguments",
            act=lambda: declared(plain, using=by_customer),
            error=TypeError,
            says=(
                "by_customer cannot take the arguments of plain(order_id): missing a required "
                "argument: 'customer'. Give it the same parameters (without 'self')."
            ),
        ),
        Refused(
            given="`TASK_ID` under a lease",
            act=lambda: declared(key=TASK_ID, policy=HOLD),
            error=TypeError,
            says=(
                "key=TASK_ID does not go with Leased on billing.charge: a message sent anew "
                "could never reach its old doubt. Choose a key from the arguments."
            ),
        ),
        Refused(
            given="`async def`",
            act=lambda: declared(send),
            error=TypeError,
            says=(
                "async def send cannot run here: Celery does not await it, and Django's "
                "transactions are synchronous. Make it a plain function."
            ),
        ),
        Refused(
            given="a generator",
            act=lambda: declared(lines),
            error=TypeError,
            says="The generator lines cannot run here: calling it runs nothing. Return a list.",
        ),
        Refused(
            given="a local function without `scope=`",
            act=lambda: declared(lambda order_id: None, scope=None),
            error=TypeError,
            says=(
                "… is not a lasting name "
                "for its keys: another process, or another function, can have the same. Give "
                'scope="...".'
            ),
        ),
        Refused(
            given="a scope with a NUL in it",
            act=lambda: declared(scope="billing\0"),
            error=TypeError,
            says=(
                "scope must be a printable text that is not empty, such as 'billing.charge'; "
                "got 'billing\\x00'."
            ),
        ),
        Refused(
            given="a policy that is text",
            act=lambda: declared(policy="leased"),
            error=TypeError,
            says="policy= must be Transactional() or Leased(on_doubt=...), got 'leased'.",
        ),
        Refused(
            given="`on_doubt=` that is text",
            act=leased(on_doubt="retry"),
            error=TypeError,
            says=(
                "on_doubt must be OnDoubt.HOLD, OnDoubt.RETRY or a function that asks, got 'retry'."
            ),
        ),
        Refused(
            given="`OnDoubt.RETRY` without `provider_window=`",
            act=leased(on_doubt=OnDoubt.RETRY),
            error=TypeError,
            says=(
                "provider_window= belongs to OnDoubt.RETRY, and has no default there: say for "
                "how long the provider knows a repeat, or None where a repeat is harmless."
            ),
        ),
        Refused(
            given="`no_effect_errors=` that proves nothing",
            act=leased(no_effect_errors=(OSError,)),
            error=TypeError,
            says=(
                "no_effect_errors must not hold OSError: it covers SMTPServerDisconnected, "
                "which may come after the effect. Name the errors that are a clear refusal."
            ),
        ),
        Refused(
            given="`lease=` as text",
            act=leased(lease="10m"),
            error=ValueError,
            says="lease must be a positive timedelta, got '10m' (str).",
        ),
        Refused(
            given="`lease=` as a number",
            act=leased(lease=600),
            error=ValueError,
            says="lease must be a positive timedelta, got 600 (int).",
        ),
        Refused(
            given="`lease=True`",
            act=leased(lease=True),
            error=ValueError,
            says="lease must be a positive timedelta, got True (bool).",
        ),
        Refused(
            given="`lease=` NaN",
            act=leased(lease=float("nan")),
            error=ValueError,
            says="lease must be a positive timedelta, got nan (float).",
        ),
        Refused(
            given="`lease=timedelta(0)`: zero is not the default",
            act=leased(lease=timedelta(0)),
            error=ValueError,
            says="lease must be a positive timedelta, got datetime.timedelta(0) (timedelta).",
        ),
        Refused(
            given="`max_run=timedelta(0)`",
            act=leased(max_run=timedelta(0)),
            error=ValueError,
            says="max_run must be a positive timedelta, got datetime.timedelta(0) (timedelta).",
        ),
        Refused(
            given="`provider_window=timedelta(0)`",
            act=leased(on_doubt=OnDoubt.RETRY, provider_window=timedelta(0)),
            error=ValueError,
            says=(
                "provider_window must be a positive timedelta, got datetime.timedelta(0) "
                "(timedelta)."
            ),
        ),
        Refused(
            given="`retention=timedelta(0)`",
            act=lambda: declared(retention=timedelta(0)),
            error=ValueError,
            says="retention must be a positive timedelta, got datetime.timedelta(0) (timedelta).",
        ),
    ),
)
