"""The pages of the admin, each asked for as an operator's browser does."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import UUID

from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.urls import NoReverseMatch, reverse

from idempotency.admin.filters import AGES
from idempotency.admin.operations import OPERATIONS
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage
from tests.benchmarks.fill import KEY, NO_SCOPE, SCOPE

MODELS = (IdempotencyRecord, IdempotencyEvent, ParkedMessage)
RECORD, EVENT, MESSAGE = (f"idempotency_{model._meta.model_name}" for model in MODELS)

Get = Callable[[], HttpResponse]


@dataclass(frozen=True)
class Statement:
    """What one statement took, in milliseconds.

    Attributes:
        cpu: Of the processor, in the server's process.
        wall: From its sending until all of its rows were here.
    """

    sql: str
    cpu: float
    wall: float


class Watch:
    """Takes the time of each statement."""

    def __init__(self) -> None:
        self.statements: list[Statement] = []

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        cpu, begin = cpu_of_server(), perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            wall = 1000 * (perf_counter() - begin)
            self.statements.append(Statement(sql, cpu_of_server() - cpu, wall))


def cpu_of_server() -> float:
    """Milliseconds for which our session's process was on a processor.
    (docs.kernel.org/scheduler/sched-stats.html, /proc/<pid>/schedstat)"""
    said = Path(f"/proc/{connection.connection.info.backend_pid}/schedstat").read_text()
    return int(said.split()[0]) / 1e6


def statements_of(get: Get) -> list[Statement]:
    """What a page asks of the database.

    Raises:
        AssertionError: It was not shown.
    """
    connection.ensure_connection()
    watch = Watch()
    with connection.execute_wrapper(watch):
        response = get()
    assert response.status_code == 200, response
    return watch.statements


def pages(client: Client) -> Iterator[tuple[str, Get]]:
    """Each page, by what an operator would call it."""

    def get(page: str, *args: object, **query: object) -> Get:
        address = reverse(f"admin:{page}", args=args)
        return lambda: client.get(address, query)

    def records(**query: object) -> Get:
        return get(f"{RECORD}_changelist", **query)

    yield "records", records()
    yield "page 2", records(p=2)
    yield "the last page", records(p=100)
    for state in ("in_doubt", "lapsed", "exhausted", "failed", "running", "succeeded"):
        yield f"state: {state}", records(state=state)
    yield "scope", records(scope=SCOPE)
    yield "scope that no row has", records(scope=NO_SCOPE)
    for age in AGES:
        yield f"age: {age}", records(age=age)
    yield "attempts: more than one", records(attempts="many")
    yield "forgotten within a day", records(expires="soon")
    for state in ("failed", "exhausted", "running"):
        yield f"{state}, of a scope", records(state=state, scope=SCOPE)
        yield f"{state}, of a scope that no row has", records(state=state, scope=NO_SCOPE)
    yield "failed in the past hour", records(state="failed", age="1h")
    yield "failed, attempts: more than one", records(state="failed", attempts="many")
    yield from _searches(records)
    yield from _others(get)
    yield from _settling(client)


def _searches(records: Callable[..., Get]) -> Iterator[tuple[str, Get]]:
    sample = _middle(IdempotencyRecord.objects.filter(state="succeeded"))
    failed = _middle(IdempotencyRecord.objects.filter(state="failed"))
    yield "search: key", records(q=KEY)
    yield "search: scope and key", records(q=f"{SCOPE}: {KEY}")
    yield "search: key that no row has", records(q="order-8")
    yield "search: hash", records(q=sample.key_hash.hex)
    yield "search: beginning of a hash", records(q=sample.key_hash.hex[:8])
    yield "search: task id of a failure", records(q=failed.task_id)
    yield "search: task id of an old success", records(q=sample.task_id)
    yield "search: task id that no row has", records(q=UUID(int=7))
    yield "search within a filter", records(q=KEY, state="failed", scope=SCOPE)


def _others(get: Callable[..., Get]) -> Iterator[tuple[str, Get]]:
    for state in ("succeeded", "in_doubt", "running"):
        pk = _middle(IdempotencyRecord.objects.filter(state=state)).pk
        yield f"one record: {state}", get(f"{RECORD}_change", pk)
    yield "history of one record", get(f"{RECORD}_history", pk)
    event = _middle(IdempotencyEvent.objects.all())
    yield "events", get(f"{EVENT}_changelist")
    yield "events of a kind", get(f"{EVENT}_changelist", kind__exact="deferred")
    yield "events of a kind that no row has", get(f"{EVENT}_changelist", kind__exact="purged")
    yield "events of a key", get(f"{EVENT}_changelist", q=event.key_hash.hex)
    yield "one event", get(f"{EVENT}_change", event.pk)
    message = _middle(ParkedMessage.objects.all())
    yield "parked messages", get(f"{MESSAGE}_changelist")
    yield "parked messages of a reason", get(f"{MESSAGE}_changelist", reason__exact="gave_up")
    yield "one parked message", get(f"{MESSAGE}_change", message.pk)
    try:
        yield "dashboard", get("idempotency_dashboard")
    except NoReverseMatch:
        print("There is no dashboard: admin:idempotency_dashboard leads nowhere.")


def _settling(client: Client) -> Iterator[tuple[str, Get]]:
    """The pages that ask before it is done: for one record, for a page of them, for too many."""
    changelist = reverse(f"admin:{RECORD}_changelist")
    for name, operation in OPERATIONS.items():
        fit = operation.fitting(IdempotencyRecord.objects.all()).order_by("pk")
        one, *_ = chosen = list(fit.values_list("pk", flat=True)[:50])
        address = reverse(f"admin:{RECORD}_settle", args=[name])

        def press(address: str = address, one: int = one) -> HttpResponse:
            return client.post(address, {"record": one})

        def choose(name: str = name, chosen: list[int] = chosen, **more: object) -> HttpResponse:
            return client.post(
                changelist, {"action": name, "_selected_action": chosen, **more}, follow=True
            )

        def choose_all(choose: Get = choose) -> HttpResponse:
            return choose(select_across=1)

        yield f"{operation.label}: ask about one", press
        yield f"{operation.label}: ask about 50", choose
        yield f"{operation.label}: refuse all", choose_all


def _middle(rows: Any) -> Any:
    """One that is neither among the newest nor among the oldest."""
    last = rows.model._default_manager.order_by("-pk").values_list("pk", flat=True)[0]
    return rows.filter(pk__gte=last // 2).order_by("pk")[0]
