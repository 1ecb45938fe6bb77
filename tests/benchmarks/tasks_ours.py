"""The same tasks, decorated."""

from celery import shared_task

from idempotency import idempotent
from tests.benchmarks.tasks_plain import write


@shared_task
@idempotent(key="order")
def empty(order: int) -> None:
    pass


@shared_task
@idempotent(key="order")
def one_row(order: int) -> None:
    write(1, order)


@shared_task
@idempotent(key="order")
def ten_rows(order: int) -> None:
    write(10, order)
