"""A user's mistakes: both checkers refuse each line that says so, and no other line.

``# refused: CODE, RULE`` names what mypy and what pyright say of the line. It is never run.
"""

from __future__ import annotations

from datetime import timedelta

from celery import Task, shared_task

import idempotency
from idempotency import (
    Leased,
    OnDoubt,
    Transactional,
    Verdict,
    current_attempt,
    execute,
    idempotent,
)
from idempotency.policies import Doubt
from idempotency.resolution import allow_again, resolve

HOLD = OnDoubt.HOLD


@shared_task(acks_late=True)
@idempotent(key="order_id")
def ship(order_id: int, note: str = "") -> str:
    return note


@shared_task(bind=True)
@idempotent(key="order_id")
def bound(self: Task[[int], int], order_id: int) -> int:
    return order_id


@idempotent(key=("a", "b"), policy=Leased(on_doubt=HOLD))
def plain(a: int, b: str) -> list[int]:
    return [a]


def says_nothing(order_id: int) -> None: ...


def number_of(order_id: int) -> int:
    return order_id


# A task, called and published.
ship.delay()  # refused: call-arg, reportCallIssue
ship.delay("7")  # refused: arg-type, reportArgumentType
ship.delay(7, note=7)  # refused: arg-type, reportArgumentType
ship.delay(7, nota="x")  # refused: call-arg, reportCallIssue
ship.delay(7, "x", "y")  # refused: call-arg, reportCallIssue
ship("7")  # refused: arg-type, reportArgumentType
ship.si("7")  # refused: arg-type, reportArgumentType
ship.apply_async(7)  # refused: arg-type, reportArgumentType
shipped: int = ship.delay(7).get()  # refused: assignment, reportAssignmentType
bound.delay()  # refused: call-arg, reportCallIssue
bound.delay("7")  # refused: arg-type, reportArgumentType
bound(7, 8)  # refused: call-arg, reportCallIssue

# A plain function.
plain(1)  # refused: call-arg, reportCallIssue
plain(1, 2)  # refused: arg-type, reportArgumentType
number: int = plain(1, "b")  # refused: assignment, reportAssignmentType
plain.delay(1, "b")  # refused: attr-defined, reportFunctionMemberAccess

# The decorator.
idempotent(says_nothing)  # refused: arg-type, reportArgumentType
idempotent(key=7)  # refused: arg-type, reportArgumentType
idempotent(key=["a", "b"])  # refused: arg-type, reportArgumentType
idempotent(key=("a", 1))  # refused: arg-type, reportArgumentType
idempotent(key="a", fingerprint=7)  # refused: arg-type, reportArgumentType
idempotent(key="a", policy=HOLD)  # refused: arg-type, reportArgumentType
idempotent(key="a", policy=Leased)  # refused: arg-type, reportArgumentType
idempotent(key="a", retention=30)  # refused: arg-type, reportArgumentType
idempotent(key="a", store_result="no")  # refused: arg-type, reportArgumentType
idempotent(key="a", using=7)  # refused: arg-type, reportArgumentType
idempotent(key="a", using=number_of)  # refused: arg-type, reportArgumentType
idempotent(key="a", ttl=timedelta(days=1))  # refused: call-arg, reportCallIssue

# The policies.
Leased()  # refused: call-arg, reportCallIssue
Leased(HOLD)  # refused: call-arg, reportCallIssue
Leased(on_doubt="hold")  # refused: arg-type, reportArgumentType
Leased(on_doubt=HOLD, lease=60)  # refused: arg-type, reportArgumentType
Leased(on_doubt=OnDoubt.RETRY, provider_window=24)  # refused: arg-type, reportArgumentType
Leased(on_doubt=HOLD, no_effect_errors=[OSError])  # refused: arg-type, reportArgumentType
Leased(on_doubt=HOLD, no_effect_errors=(SystemExit,))  # refused: arg-type, reportArgumentType
Transactional(lease=timedelta(seconds=1))  # refused: call-arg, reportCallIssue


def says_yes(doubt: Doubt) -> bool:
    return doubt.attempt > 1


def asks_nothing() -> Verdict:
    return Verdict.unknown()


Leased(on_doubt=says_yes)  # refused: arg-type, reportArgumentType
Leased(on_doubt=asks_nothing)  # refused: arg-type, reportArgumentType
Verdict.did_not_happen("receipt")  # refused: call-arg, reportCallIssue
Verdict.maybe()  # refused: attr-defined, reportAttributeAccessIssue

# Outside of Celery.
execute(lambda: "x", key=1)  # refused: call-arg, reportCallIssue
execute(lambda: "x", scope="s")  # refused: call-arg, reportCallIssue
execute(lambda x: x, key=1, scope="s")  # refused: arg-type, misc, reportArgumentType
execute("x", key=1, scope="s")  # refused: arg-type, reportArgumentType
execute(lambda: "x", key=1, scope="s", wait=5)  # refused: arg-type, reportArgumentType
once: int = execute(str, key=1, scope="s").result  # refused: assignment, reportAssignmentType
receipt = execute(str, key=1, scope="s").value  # refused: attr-defined, reportAttributeAccessIssue

# The running attempt, and the operator.
current_attempt().effect_begins("mail")  # refused: call-arg, reportCallIssue
current_attempt().effect_begun()  # refused: attr-defined, reportAttributeAccessIssue
current_attempt().number = "1"  # refused: assignment, reportAttributeAccessIssue
with current_attempt().settling("a", "b"):  # refused: call-arg, reportCallIssue
    pass
resolve("00", Verdict.unknown(), reason="why")  # refused: arg-type, reportArgumentType
resolve(current_attempt().provider_key, Verdict.unknown())  # refused: call-arg, reportCallIssue
resolve(current_attempt().provider_key, True, reason="why")  # refused: arg-type, reportArgumentType
allow_again(current_attempt().provider_key)  # refused: call-arg, reportCallIssue

# The root, whose names are found on first use.
idempotency.current_atempt()  # refused: attr-defined, reportAttributeAccessIssue
idempotency.Leased()  # refused: call-arg, reportCallIssue
