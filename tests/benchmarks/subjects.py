"""What ``calls`` measures: each call with a key that is new, beside what it costs without us."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction

from idempotency import Leased, OnDoubt, idempotent
from idempotency.attempts import Delivery, delivery_finders
from tests.benchmarks.rounds import Subject
from tests.jobs.models import Effect

RESULT = {"ok": True, "order": 12345678}  # 31 bytes of JSON
INSERT = "INSERT INTO jobs_effect (key, note, pid, created_at) VALUES (%s, 'n', %s, now())"
SCOPE = "bench.confirm_order"


def one_statement(order: int) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [f"order {order}", os.getpid()])
    return RESULT


def one_row(order: int) -> dict[str, Any]:
    Effect.objects.create(key=f"order {order}", note="n", pid=os.getpid())
    return RESULT


def bare(order: int) -> None:
    with transaction.atomic():
        one_statement(order)


def bare_orm(order: int) -> None:
    with transaction.atomic():
        one_row(order)


first = idempotent(key="order", scope=SCOPE)(one_statement)
first_orm = idempotent(key="order", scope="bench.confirm_by_orm")(one_row)
leased = idempotent(key="order", scope="bench.leased", policy=Leased(on_doubt=OnDoubt.HOLD))(
    one_statement
)


class Redelivered(Delivery):
    """A message that the broker says it has delivered before."""

    repeated = redelivered = True


def flagged(call: Callable[[int], Any]) -> Callable[[int], Any]:
    """The same job in a delivery that says so."""

    def deliver(order: int) -> None:
        delivery_finders.insert(0, lambda function: Redelivered())
        try:
            call(order)
        finally:
            del delivery_finders[0]

    return deliver


redelivered = flagged(idempotent(key="order", scope="bench.redelivered")(one_statement))

BARE, BARE_ORM, CONTROL = "bare transaction", "bare, one row by the ORM", "bare again (A/A)"
FIRST, DUPLICATE = "first execution", "duplicate"
FLAGGED = "duplicate, flagged as redelivered"
SUBJECTS = (
    Subject(BARE, bare, BARE),
    Subject(CONTROL, bare, BARE),
    Subject(FIRST, first, BARE),
    Subject("first execution, redelivered", redelivered, BARE),
    Subject(DUPLICATE, first, BARE, again=True),
    Subject(FLAGGED, flagged(first), BARE, again=True),
    Subject("leased execution", leased, BARE),
    Subject("leased, duplicate", leased, BARE, again=True),
    Subject(BARE_ORM, bare_orm, BARE_ORM),
    Subject("first, one row by the ORM", first_orm, BARE_ORM),
)
