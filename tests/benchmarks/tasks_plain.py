"""Tasks without us, and those that say when a batch begins and ends."""

import os
import time
from pathlib import Path

from celery import shared_task

from tests.jobs.models import Effect


def write(rows: int, order: int) -> None:
    for number in range(rows):
        Effect.objects.create(key=f"order {order}.{number}", note="n", pid=os.getpid())


@shared_task
def empty(order: int) -> None:
    pass


@shared_task
def one_row(order: int) -> None:
    write(1, order)


@shared_task
def ten_rows(order: int) -> None:
    write(10, order)


@shared_task
def wait(folder: str, number: int) -> None:
    """Hold a child until all of a batch is in the queue."""
    Path(folder, f"waits-{number}").touch()
    while not Path(folder, "open").exists():
        time.sleep(0.001)


@shared_task
def ring(folder: str, number: int) -> None:
    """Say when a child has come to the end of the queue."""
    Path(folder, f"rang-{number}.new").write_text(str(time.time()))
    Path(folder, f"rang-{number}.new").rename(Path(folder, f"rang-{number}"))
