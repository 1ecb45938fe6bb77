"""``@idempotent``: a function and a policy become calls of the algorithm."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Never, ParamSpec, TypeVar

from idempotency import events, execution
from idempotency.attempts import Delivery, check_body, delivery_of
from idempotency.calls import Call
from idempotency.conf import conf
from idempotency.jobs import Job, Using, register
from idempotency.keys import ALL_ARGUMENTS, OTHER_ARGUMENTS, Keying, KeySpec
from idempotency.policies import (
    Leased,
    OnDoubt,
    Policy,
    Transactional,
    check_duration,
    check_policy,
)
from idempotency.sharding import Sharding, sharding_of

P = ParamSpec("P")
R = TypeVar("R")


def idempotent(
    *misuse: Never,
    key: KeySpec | None = None,
    policy: Policy = Transactional(),  # noqa: B008 frozen
    scope: str | None = None,
    fingerprint: KeySpec | None = OTHER_ARGUMENTS,
    using: Using | None = None,
    retention: timedelta | None = None,
    store_result: bool | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Run a function once for a key, however often it is called or delivered.

    Stands below ``@shared_task``. A duplicate returns the first run's result. In a Celery task, a
    delivery whose key is running elsewhere is published again for later, and one whose key is in
    doubt is parked until the doubt is resolved; in a plain call both are raised.

    Args:
        key: What makes two calls the same intended effect: a path into the arguments
            (``"order_id"``, ``"event.detail.id"``), a tuple of paths, a callable that takes the
            same arguments, ``ALL_ARGUMENTS`` or ``TASK_ID``.
        policy: The promise. See :class:`Transactional` and :class:`Leased`.
        scope: What keys are unique within. Default: module and name of the function; give one so
            that moving the function forgets nothing.
        fingerprint: What two calls with one key must share: takes what ``key`` takes, or None.
            Default: the arguments that no path of the key enters.
        using: Database alias, or a callable that takes the same arguments and returns one: the
            shard of the data. It must return the same one for every call with one key. Default:
            the setting ``DATABASE``.
        retention: How long the settled record is kept. Default: the setting ``RETENTION``.
        store_result: Whether the result is stored. Default: the setting ``STORE_RESULT``.

    Raises:
        TypeError: At import, when the decorator cannot do what it says there.

    The decorated function raises what :func:`execute` raises.
    """
    if misuse:
        key = None  # a bare @idempotent: Keying lists the choices
    check_policy(policy)
    check_duration("retention", retention)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        _refuse_misuse(function)
        keying = Keying(function, key=key, fingerprint=fingerprint, scope=scope)
        sharding = sharding_of(function, using, scope=keying.scope)
        if keying.uses_task_id and isinstance(policy, Leased):
            raise TypeError(
                f"key=TASK_ID does not go with Leased on {keying.scope}: a message sent anew could "
                "never reach its old doubt. Choose a key from the arguments."
            )

        asks = isinstance(policy, Leased) and not isinstance(policy.on_doubt, OnDoubt)
        signature = inspect.signature(function)
        names = list(signature.parameters.values())
        self_first = bool(names) and names[0].name == "self"
        job = Job(
            name=f"{function.__module__}.{function.__qualname__}",
            policy=policy,
            using=using,
            retention=retention,
            signature=signature.replace(parameters=names[self_first:]),
            key_paths=_paths(key, [parameter.name for parameter in names[self_first:]]),
            uses_task_id=keying.uses_task_id,
        )
        register(keying.scope, job)

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            delivery = delivery_of(function)
            call = Call(
                function=functools.partial(_run, function, delivery, args, kwargs),
                key=keying.key_for(
                    args, kwargs, message=delivery.message, secrets=conf().KEY_SECRETS
                ),
                policy=policy,
                delivery=delivery,
                using=job.alias,
                retention=retention,
                store_result=store_result,
                arguments=job.by_name(args[self_first:], kwargs) if asks else None,
            )
            try:
                call = _on_its_shard(call, sharding, args, kwargs)
                result: R = execution.run(call).result
            except Exception as error:
                named = getattr(error, "key", None)
                hashes = call.key.hashes
                about = events.told(
                    using=call.using or conf().DATABASE,
                    # Of the record that was met; the error of a nested call names another key.
                    key_hash=next((each for each in hashes if each.hex == named), hashes[0]),
                    scope=keying.scope,
                    task_id=delivery.task_id,
                    redelivered=delivery.redelivered,
                )
                defer_for = max(conf().DEFER_FOR, 2 * call.lease)
                answer = delivery.answer(error, about=about, defer_for=defer_for)
                if answer is error:
                    raise
                raise answer from error
            return result

        # Celery checks the arguments of .delay() against this; through *args it could not.
        wrapper.__signature__ = signature  # type: ignore[attr-defined] # read by inspect
        wrapper.__idempotent__ = job  # type: ignore[attr-defined] # seen by checks too
        return wrapper

    if misuse:
        return decorate(misuse[0])  # type: ignore[return-value] # it raises
    return decorate


def _run(
    function: Callable[..., R], delivery: Delivery, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> R:
    args, kwargs = delivery.arguments(args, kwargs)
    return function(*args, **kwargs)


def _on_its_shard(
    call: Call, sharding: Sharding | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call:
    if sharding is None:
        return call
    alias = sharding.alias_for(args, kwargs, key=call.key.hashes[0].hex)
    return replace(call, using=alias)


def _paths(key: KeySpec | None, parameters: list[str]) -> tuple[str, ...]:
    """What the key is taken from, as far as it is said."""
    if key is ALL_ARGUMENTS:
        return tuple(parameters)
    if isinstance(key, str):
        return (key,)
    return key if isinstance(key, tuple) else ()


def _refuse_misuse(function: Any) -> None:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    if not inspect.isfunction(function):
        raise TypeError(
            f"@idempotent on {name} was given a {type(function).__name__}, not a function. On a "
            "task, swap the two decorators: it stands below @shared_task and @task."
        )
    if hasattr(function, "__idempotent__"):
        raise TypeError(f"@idempotent was applied twice to {name}. Keep one.")
    check_body(function)
