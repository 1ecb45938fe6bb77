"""What in Celery's configuration breaks a promise: said by ``manage.py check`` and by a worker."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from celery import Celery, current_app
from celery.backends.base import BaseBackend, KeyValueStoreBackend
from celery.signals import celeryd_after_setup
from django.core import checks

from idempotency.checks import TAG, Found, register
from idempotency.jobs import all_jobs

logger = logging.getLogger("idempotency")

#: Seconds after which a transport delivers an unacknowledged message again, by its own default.
#: (kombu/transport/redis.py, SQS.py, pgmq.py: visibility_timeout)
VISIBILITY_TIMEOUTS = {"redis": 3600, "rediss": 3600, "sentinel": 3600, "sqs": 1800, "pgmq": 1800}
#: Transports that forget an unacknowledged message when its worker dies. (Each run with kill -9.)
FORGETFUL = frozenset({"filesystem", "memory", "sqla", "sqlalchemy"})


def check_celery() -> Found:
    """Check the current Celery application."""
    all_jobs()
    app = current_app._get_current_object()  # type: ignore[attr-defined] # of a proxy
    return [*check_tasks(app), *check_broker(app), *check_chords(app)]


def check_tasks(app: Celery) -> Found:
    """W001 and W002: what becomes of the message when its worker dies."""
    found: Found = []
    for name, task in _idempotent_tasks(app):
        if not task.acks_late:
            found.append(
                checks.Warning(
                    f"The message of {name} is acknowledged before it runs: a worker that dies "
                    "loses the job, and nothing will repeat it.",
                    hint="Set acks_late=True on the task, or CELERY_TASK_ACKS_LATE = True.",
                    id="idempotency.W001",
                )
            )
        elif not (task.reject_on_worker_lost or getattr(task, "retry_on_worker_lost", False)):
            found.append(
                checks.Warning(
                    f"When the pool process of {name} is killed (out of memory, SIGKILL), Celery "
                    "acknowledges its message: the job is lost, and nothing will repeat it.",
                    hint="Set reject_on_worker_lost=True on the task, or "
                    "CELERY_TASK_REJECT_ON_WORKER_LOST = True.",
                    id="idempotency.W002",
                )
            )
    return found


def check_broker(app: Celery) -> Found:
    """W004 and W020: when the broker delivers again."""
    tasks = list(_idempotent_tasks(app))
    transport = app.connection_for_write().transport_cls
    if not tasks:
        return []
    if transport in FORGETFUL:
        return [
            checks.Warning(
                f"The broker {transport}:// forgets a message whose worker dies: the job is lost, "
                "and nothing will repeat it.",
                hint="Use Redis, RabbitMQ, SQS or pgmq:// where jobs must not be lost.",
                id="idempotency.W020",
            )
        ]
    options = app.conf.broker_transport_options or {}
    default = VISIBILITY_TIMEOUTS.get(transport)
    timeout = default and float(options.get("visibility_timeout") or default)
    return [
        checks.Warning(
            f"{name} may run for {limit} s, and {transport}:// delivers its message again after "
            f"{timeout:.0f} s: the second delivery is deferred until the first has ended.",
            hint="Set visibility_timeout in CELERY_BROKER_TRANSPORT_OPTIONS above the hard time "
            "limit of every task.",
            id="idempotency.W004",
        )
        for name, task in tasks
        if (limit := task.time_limit or app.conf.task_time_limit) and timeout and limit >= timeout
    ]


def _idempotent_tasks(app: Celery) -> Iterator[tuple[str, Any]]:
    return (
        (name, task)
        for name, task in sorted(app.tasks.items())
        if hasattr(task.run, "__idempotent__")
    )


def check_chords(app: Celery) -> Found:
    """A backend that counts the members of a chord counts one that is delivered twice twice."""
    try:
        backend = app.backend
    except Exception:  # Celery says itself, and better, what is wrong with it
        return []
    if not _counts_twice(backend):
        return []
    name = f"{type(backend).__module__}.{type(backend).__qualname__}"
    return [
        checks.Warning(
            f"The result backend {name} counts a chord's member again when it is delivered again, "
            "so that the chord's body runs too early, or never.",
            hint="For chords use Redis with result_chord_ordered, the default, or a backend that "
            "polls: rpc:// or db+...://. Without chords, silence this.",
            id="idempotency.W019",
        )
    ]


def _counts_twice(backend: Any) -> bool:
    # Redis: members are a set, ordered or, since Celery 5.7, beside a list.
    if getattr(backend, "_chord_zset", False) or hasattr(backend, "_chord_part_return_script"):
        return False
    if isinstance(backend, KeyValueStoreBackend):
        return bool(backend.implements_incr)
    # Celery's own do nothing here: chord_unlock polls the results.
    return type(backend).on_chord_part_return is not BaseBackend.on_chord_part_return


@celeryd_after_setup.connect
def log_checks(**_: Any) -> None:
    """A worker runs Django's checks and throws away what they find: ours are logged."""
    for message in checks.run_checks(tags=[TAG]):
        if not message.is_silenced():
            logger.log(message.level, "%s", message)


register(check_celery)
