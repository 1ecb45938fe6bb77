"""Celery tasks that tests steer by gates and by their arguments."""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from celery import Task, shared_task
from celery.signals import before_task_publish, task_postrun, task_prerun

from idempotency import Leased, OnDoubt, Verdict, current_attempt, idempotent
from idempotency.policies import Doubt
from tests.harness.gates import DIRECTORY, reach
from tests.jobs.models import Effect

#: What must survive a deferral of a message.
REQUEST = [
    "id", "args", "kwargs", "retries", "root_id", "parent_id", "group", "group_index", "chord",
    "chain", "callbacks", "errbacks", "expires", "timelimit", "shadow", "headers", "stamps",
    "stamped_headers", "ignore_result", "replaced_task_nesting", "reply_to", "correlation_id",
]  # fmt: skip


def effect(key: str, note: str) -> None:
    Effect.objects.create(key=key, note=note, pid=os.getpid())


@shared_task
def echo(value: Any) -> Any:
    """What a task's result looks like without us."""
    return value


@shared_task
@idempotent(key="key")
def transactional(key: str, value: Any = None) -> Any:
    """One row; ``value`` is the result."""
    reach("body")
    effect(key, "effect")
    reach("effect")
    return value


@shared_task(default_retry_delay=1)
@idempotent(key="key")
def retried_when_lost(key: str) -> str:
    """Where Celery retries a task whose process is lost."""
    reach("body")
    effect(key, "effect")
    reach("effect")
    return "value"


@shared_task
@idempotent(key="key")
def next_step(previous: Any, key: str) -> Any:
    """The second step of a chain."""
    effect(key, "next step")
    return previous


@shared_task
@idempotent(key="key")
def collect(values: list[Any], key: str) -> list[Any]:
    """The body of a chord."""
    effect(key, f"collected {json.dumps(values)}")
    return values


@shared_task
@idempotent(key="key", policy=Leased(on_doubt=OnDoubt.HOLD))
def unclear(key: str) -> str:
    """It makes a doubt."""
    raise TimeoutError(key)


@shared_task
@idempotent(key="keys")
def create(keys: list[str]) -> list[str]:
    """The first step of a fan-out: one row for each key."""
    for key in keys:
        effect(key, "created")
    return keys


@shared_task
def enqueue_each(keys: list[str]) -> None:
    """The second step: one message for each key."""
    for key in keys:
        transactional.delay(key)


@shared_task
@idempotent(key="key", policy=Leased(on_doubt=OnDoubt.HOLD, marks_effect=True))
def leased(key: str) -> str:
    """An effect outside, one line in a file, and a row that belongs to its settlement."""
    reach("body")
    current_attempt().effect_begins()
    with outbox().open("a") as lines:
        lines.write(f"{key}\n")
    reach("effect")
    with current_attempt().settling():
        effect(key, "settled")
    return key


def send(key: str) -> str:
    """An effect outside, named by its provider key."""
    reach("body")
    current_attempt().effect_begins()
    with outbox().open("a") as lines:
        lines.write(f"{current_attempt().provider_key}\n")
    reach("effect")
    return key


@shared_task
@idempotent(
    key="key",
    policy=Leased(on_doubt=OnDoubt.RETRY, provider_window=timedelta(days=1), marks_effect=True),
)
def retried(key: str) -> str:
    """Sent again after a death, with the same provider key."""
    return send(key)


def ask(doubt: Doubt) -> Verdict:
    """The outside world is asked."""
    reach("ask")
    sent = outbox().read_text().splitlines() if outbox().exists() else []
    if str(doubt.provider_key) in sent:
        return Verdict.happened("asked")
    return Verdict.did_not_happen()


@shared_task
@idempotent(key="key", policy=Leased(on_doubt=ask, marks_effect=True))
def asked(key: str) -> str:
    """Asked about after a death."""
    return send(key)


def outbox() -> Path:
    """The outside world of ``leased``: what is in it can not be taken back."""
    return Path(os.environ[DIRECTORY]) / "outbox"


@task_prerun.connect
def announce_delivery(task: Task, **_: Any) -> None:
    reach(f"delivery-{task.__name__}")


@before_task_publish.connect
def announce_publication(sender: str, **_: Any) -> None:
    reach(f"publish-{sender.rpartition('.')[2]}")


@task_prerun.connect
def note_request(task: Task, **_: Any) -> None:
    """What a message was like when it came."""
    if directory := os.environ.get(DIRECTORY):
        fields = {name: getattr(task.request, name, None) for name in REQUEST}
        delivery = task.request.delivery_info or {}
        fields |= {name: delivery.get(name) for name in ("priority", "redelivered")}
        with (Path(directory) / "requests").open("a") as lines:
            lines.write(json.dumps(fields, default=str, sort_keys=True) + "\n")


@task_postrun.connect
def announce_end(task: Task, **_: Any) -> None:
    reach(f"end-{task.__name__}")


@shared_task(bind=True)
@idempotent(key="key")
def replacing(self: Task, key: str) -> Any:
    """Another task does the rest, under the same task id."""
    effect(key, "replacing")
    raise self.replace(next_step.s("value", key))
