"""A user's code as it should be: both checkers accept it, with the types that it asserts.

It is read by the checkers and never run. What celery-types leaves open stays open: the arguments
of ``.s()`` and of ``apply_async``, for they may be a part only, and all of a task of ``app.task``.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any, TypedDict, assert_type
from uuid import UUID

from celery import Celery, Task, shared_task
from celery.canvas import Signature
from celery.result import AsyncResult

import idempotency
from idempotency import (
    ALL_ARGUMENTS,
    TASK_ID,
    IdempotencyError,
    Leased,
    OnDoubt,
    Transactional,
    Verdict,
    current_attempt,
    execute,
    idempotent,
)
from idempotency.attempts import Attempt
from idempotency.calls import Outcome
from idempotency.exceptions import AlreadyRunning, InDoubt
from idempotency.models import IdempotencyRecord
from idempotency.policies import Doubt
from idempotency.resolution import allow_again, resolve

app = Celery("samples")


class Invoice(TypedDict):
    number: str


# -- a task keeps its signature and its result -------------------------------------------------


@shared_task(acks_late=True, reject_on_worker_lost=True)
@idempotent(key="order_id")
def ship(order_id: int, note: str = "") -> str:
    return note * order_id


assert_type(ship(7), str)
assert_type(ship(7, note="x"), str)
assert_type(ship.delay(7), AsyncResult[str])
assert_type(ship.delay(order_id=7, note="x").get(), str)
assert_type(ship.apply_async((7,), {"note": "x"}, countdown=3), AsyncResult[str])
assert_type(ship.s(7), Signature[str])
assert_type(ship.si(7, note="x"), Signature[str])


@shared_task
@idempotent(key="order_id")
def bare(order_id: int) -> None: ...


assert_type(bare.delay(7), AsyncResult[None])


# With Task[Any, Any], mypy would take Any for the arguments and the result as well.
@shared_task(bind=True, max_retries=3)
@idempotent(key="order_id")
def bound(self: Task[[int], int], order_id: int) -> int:
    return self.request.retries + order_id


assert_type(bound.delay(7), AsyncResult[int])
assert_type(bound(7), int)


@app.task
@idempotent(key="order_id")
def of_app(order_id: int) -> int:
    return order_id


@app.task(bind=True, acks_late=True)
@idempotent(key=TASK_ID)
def bound_of_app(self: Task[Any, Any], order_id: int) -> int:
    return order_id


of_app.delay(7)
bound_of_app.delay(7)


# -- each form of key= and of fingerprint= -----------------------------------------------------


@idempotent(key=("tenant_id", "invoice.number"), fingerprint=None)
def of_paths(tenant_id: int, invoice: Invoice) -> list[int]:
    return [tenant_id]


@idempotent(key=lambda tenant_id, **rest: [tenant_id], fingerprint="amount")
def of_lambda(tenant_id: int, *, amount: Decimal) -> Decimal:
    return amount


def number_of(tenant_id: int, invoice: Invoice) -> str:
    return invoice["number"]


@idempotent(key=number_of, fingerprint=("tenant_id",), scope="samples", retention=timedelta(days=7))
def of_function(tenant_id: int, invoice: Invoice) -> None: ...


@idempotent(key=ALL_ARGUMENTS, using="default", store_result=False)
def of_all(*numbers: int) -> int:
    return sum(numbers)


@idempotent(key=TASK_ID, fingerprint=ALL_ARGUMENTS)
def of_message(number: int) -> int:
    return number


def shard_of(tenant_id: int, number: int) -> str:
    return "eu" if tenant_id < 1000 else "us"


@shared_task
@idempotent(key=("tenant_id", "number"), using=shard_of)
def of_shard(tenant_id: int, number: int) -> int:
    return number


@idempotent(key="number", using=lambda number: f"shard{number % 4}")
def of_number(number: int) -> int:
    return number


assert_type(of_shard.delay(1, number=2), AsyncResult[int])
assert_type(of_number(2), int)


assert_type(of_paths(1, {"number": "a"}), list[int])
assert_type(of_lambda(1, amount=Decimal(2)), Decimal)
assert_type(of_all(1, 2, 3), int)
assert_type(of_message(1), int)


# -- each policy -------------------------------------------------------------------------------

ROWS = Transactional()
HELD = Leased(on_doubt=OnDoubt.HOLD, marks_effect=True, no_effect_errors=(ConnectionRefusedError,))
REPEATED = Leased(on_doubt=OnDoubt.RETRY, provider_window=timedelta(hours=24))
HARMLESS = Leased(on_doubt=OnDoubt.RETRY, provider_window=None, lease=timedelta(minutes=1))


def ask(doubt: Doubt) -> Verdict:
    assert_type(doubt.provider_key, UUID)
    if doubt.arguments is None:
        return Verdict.unknown()
    return Verdict.happened("receipt") if doubt.attempt > 1 else Verdict.did_not_happen()


ASKED = Leased(on_doubt=ask, max_run=timedelta(minutes=5))


@shared_task
@idempotent(key="order_id", policy=HELD)
def charge(order_id: int) -> str:
    attempt = current_attempt()
    assert_type(attempt, Attempt)
    assert_type(attempt.number, int)
    assert_type(attempt.key_hash, str)
    assert_type(attempt.provider_key, UUID)
    attempt.effect_begins()
    with current_attempt().settling(result="receipt"):
        pass
    with current_attempt().settling():
        pass
    return "receipt"


@idempotent(key="order_id", policy=ASKED)
def asked_about(order_id: int) -> str:
    return "receipt"


assert_type(charge.delay(7), AsyncResult[str])
assert_type(asked_about(7), str)


# -- outside of Celery -------------------------------------------------------------------------


def receive(event: dict[str, str]) -> int:
    try:
        outcome = execute(
            lambda: len(event),
            key=(event["id"], 7),
            scope="webhook",
            policy=ROWS,
            fingerprint=event["kind"],
            wait=timedelta(seconds=5),
        )
    except AlreadyRunning as busy:
        assert_type(busy.key, str | None)
        return 0
    except (InDoubt, IdempotencyError):
        return 0
    assert_type(outcome, Outcome[int])
    assert_type(outcome.replayed, bool)
    return outcome.result


assert_type(execute(lambda: "x", key=1, scope="s", policy=REPEATED).result, str)
assert_type(execute(lambda: None, key=1, scope="s", policy=HARMLESS).result, None)


def operate() -> None:
    for record in IdempotencyRecord.objects.filter(state="in_doubt"):
        resolve(record.key_hash, Verdict.happened("seen"), reason="the log", by="ada")
        allow_again(record.key_hash, reason="the customer asked", by="ada")


# -- the root names by way of the module -------------------------------------------------------


@idempotency.idempotent(
    key="order_id", policy=idempotency.Leased(on_doubt=idempotency.OnDoubt.HOLD)
)
def by_module(order_id: int) -> str:
    return str(idempotency.current_attempt().provider_key)


assert_type(by_module(7), str)
