"""Deliveries in Celery's own tracer. Celery is imported only where a task of it is delivered."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from idempotency import parking
from idempotency.testing.deaths import CannotDeliver

if TYPE_CHECKING:
    from idempotency.testing.messages import Message

#: Keeps a message that is published: task, args, kwargs, options. Says whether it did.
Keep = Callable[[Any, Any, Any, dict[str, Any]], bool]


def is_celery(task: object) -> bool:
    """Whether it is a task of Celery, which then was imported already."""
    celery = sys.modules.get("celery")
    return celery is not None and isinstance(task, celery.Task)


def through_broker(task: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments as a worker gets them: checked, written and read by the task's serializer."""
    from kombu.serialization import dumps, loads

    if task.typing:
        task.__header__(*args, **kwargs)
    serializer = task.serializer or task.app.conf.task_serializer
    content_type, encoding, text = dumps((args, kwargs), serializer=serializer)
    args, kwargs = loads(text, content_type, encoding, accept={content_type})
    return tuple(args), kwargs


def trace(message: Message, *, redelivered: bool) -> tuple[Any, BaseException | None]:
    """What a worker's tracer makes of one delivery: a value, or what was raised."""
    from celery.app.trace import build_tracer

    task: Any = message.task
    request = {
        "id": message.id,
        "task": task.name,
        "root_id": message.id,
        "retries": message.retries,
        "headers": message.headers,
        "hostname": "idempotency.testing",
        "is_eager": False,
        "delivery_info": {
            "exchange": "",
            "routing_key": task.app.conf.task_default_queue,
            "redelivered": redelivered,
        },
        "ignore_result": True,  # a test may have no result backend
    }
    traced = build_tracer(task.name, task, app=task.app)(
        message.id, list(message.args), message.kwargs, request
    )
    return (None, traced.info.retval) if traced.info else (traced.retval, None)


def is_deferred(message: Message) -> bool:
    """Whether it was published again because its key was busy."""
    from idempotency.contrib.celery import DEFERRED

    return DEFERRED in message.headers


@contextmanager
def catching_own(tasks: Iterable[Any], keep: Keep) -> Iterator[None]:
    """``keep`` what these tasks publish of themselves: retries, and deferrals."""

    def caught(task: Any) -> Callable[..., Any]:
        original = task.apply_async

        def apply_async(args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
            if keep(task, args, kwargs, options):
                return task.AsyncResult(options.get("task_id"))
            return original(args, kwargs, *rest, **options)

        return apply_async

    with ExitStack() as changes:
        for task in tasks:
            changes.enter_context(patch.object(task, "apply_async", caught(task)))
        yield


@contextmanager
def publishing_nothing() -> Iterator[None]:
    """No message of any task reaches a broker. (celery/app/base.py: all go through send_task)"""
    if parking.broker is None:  # no Celery, and so no message
        yield
        return
    from celery import Celery, uuid

    def send_task(app: Any, name: str, *_: Any, task_id: Any = None, **options: Any) -> Any:
        return app.AsyncResult(task_id or uuid())

    with patch.object(Celery, "send_task", send_task):
        yield


def refuse_early(task: Any) -> None:
    """Raise CannotDeliver if no broker would deliver the message of a dead worker again."""
    if not task.acks_late:
        raise CannotDeliver(
            f"{task.name} is acknowledged before it runs: when its worker dies, no broker delivers "
            "it again, and what it had to do is lost (idempotency.W001). Set acks_late=True on the "
            "task, or CELERY_TASK_ACKS_LATE = True."
        )


@contextmanager
def catching_parked(keep: Keep) -> Iterator[None]:
    """``keep`` the parked messages that are published."""
    if parking.broker is None:  # no Celery, and so no message
        yield
        return
    from idempotency.contrib.celery import CeleryBroker

    class Catching(CeleryBroker):
        def publish(self, message: str) -> None:
            signature = self._signature(message)
            if not keep(signature.type, signature.args, signature.kwargs, signature.options):
                super().publish(message)

    with patch.object(parking, "broker", Catching()):
        yield
