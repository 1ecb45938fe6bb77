"""When, and how often, the broker delivers again, as far as its URL and options tell."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

from celery import Celery

from idempotency.checks.findings import Found, finding, first_line
from idempotency.conf import conf
from idempotency.contrib.celery_checks.tasks import (
    hard_limit,
    idempotent_tasks,
    seconds,
    survives_its_worker,
)
from idempotency.jobs import Job
from idempotency.policies import Leased, Transactional

#: Seconds after which a transport delivers an unacknowledged message again, by its own default.
#: (kombu/transport/redis.py, SQS.py, pgmq.py: visibility_timeout)
VISIBILITY_TIMEOUTS = {"redis": 3600, "rediss": 3600, "sentinel": 3600, "sqs": 1800, "pgmq": 1800}
#: Transports that forget an unacknowledged message when its worker dies. (Each run with kill -9.)
FORGETFUL = frozenset({"filesystem", "memory", "sqla", "sqlalchemy"})
#: Transports that never say of a message that it was delivered before. (Likewise.)
UNFLAGGED = frozenset({"sqs", "pgmq"})
#: Transports that deliver again when the connection of a message's worker ends.
AMQP = frozenset({"amqp", "amqps", "pyamqp", "librabbitmq"})
#: Of all others nobody has seen what they do when a worker dies.
TRIED = AMQP | FORGETFUL | VISIBILITY_TIMEOUTS.keys()
#: Of a quorum queue without one of its own, since RabbitMQ 4.0. (rabbitmq.com/docs/quorum-queues)
DELIVERY_LIMIT = 20


def transport_of(app: Celery) -> str:
    """What is before the ``://`` of the broker's URL, aliases resolved."""
    # Celery knows lists of URLs, and reads the environment.
    return str(app.connection_for_write().transport_cls)


def visibility_timeout(app: Celery) -> float | None:
    """Seconds after which an unacknowledged message is delivered again; None for no such rule.

    Raises:
        TypeError: It is no number.
    """
    default = VISIBILITY_TIMEOUTS.get(transport_of(app))
    options: dict[str, Any] = app.conf.broker_transport_options or {}
    return default and seconds(options.get("visibility_timeout") or default, "visibility_timeout")


def told(app: Celery, error: Exception) -> str:
    """The type of an error and what it says, unless that quotes the password of the broker."""
    said, kind = first_line(error), type(error).__name__
    return kind if quotes_password(app, said) else f"{kind}: {said}"


def quotes_password(app: Celery, text: str) -> bool:
    """Whether a word of the text is one of the password in the broker's URL, and of it alone.

    What is after a slash or an @ in a password that is not encoded counts as port, host or path:
    errors quote it, and ``as_uri()`` shows it.
    """
    url = re.fullmatch(r"(.*?://[^:@]*):(.*)@(.*)", str(app.conf.broker_write_url), re.DOTALL)
    if url is None:
        return False
    begin, password, end = url.groups()
    secret = _words(password) | _words(unquote(password))
    return bool(_words(text) & (secret - _words(f"{begin} {end}")))


def _words(text: str) -> set[str]:
    return set(re.findall(r"[\w%]+", text))


def check_forgetting(app: Celery) -> Found:
    """W020: a broker that delivers nothing again, as far as anybody has seen."""
    transport = transport_of(app)
    if transport in TRIED - FORGETFUL:
        return []
    what = (
        f"The broker {transport}:// forgets a message whose worker dies: the job is lost, and "
        "nothing will repeat it."
        if transport in FORGETFUL
        else f"The broker {transport}:// was not tried: whether, and when, it delivers the message "
        "of a dead worker again is not known."
    )
    return [
        finding(
            "W020",
            what,
            "Use Redis, RabbitMQ, SQS or pgmq:// where jobs must not be lost.",
        )
    ]


def check_confirms(app: Celery) -> Found:
    """W033: a broker that refuses a message, and nobody hears of it."""
    options = app.conf.broker_transport_options or {}
    if transport_of(app) not in AMQP or options.get("confirm_publish"):
        return []
    return [
        finding(
            "W033",
            "RabbitMQ is not asked whether it has taken a message: a deferral, a retry or a next "
            "step that it refuses (the queue is full, the message too large) counts as published, "
            "and what it came from is acknowledged: the job is lost.",
            'Set "confirm_publish": True in CELERY_BROKER_TRANSPORT_OPTIONS: a deferral that is '
            "refused then goes back to the broker, and Celery shows the others as failed.",
        )
    ]


def check_visibility(app: Celery) -> Found:
    """W004: a broker that delivers again too early."""
    timeout = visibility_timeout(app)
    if timeout is None:
        return []
    return [
        finding(
            "W004",
            f"{name} may {what} for {seconds:.0f} s, and {transport_of(app)}:// delivers its "
            f"message again after {timeout:.0f} s: each copy takes a worker's time, though nothing "
            "happens twice.",
            "Set visibility_timeout in CELERY_BROKER_TRANSPORT_OPTIONS above the hard time limit "
            "and the longest pause before a retry of every task.",
        )
        for name, task, job in idempotent_tasks(app)
        for what, seconds in (
            ("run", _longest_run(app, task, job)),
            ("wait before a retry", _longest_pause(task)),
        )
        if seconds >= timeout
    ]


def _longest_run(app: Celery, task: Any, job: Job) -> float:
    """Seconds, as far as somebody said so."""
    max_run = job.policy.max_run if isinstance(job.policy, Leased) else None
    return hard_limit(app, task) or (max_run.total_seconds() if max_run else 0)


def _longest_pause(task: Any) -> float:
    """Seconds. (celery/app/autoretry.py, celery/utils/time.py: get_exponential_backoff_interval)"""
    if not getattr(task, "autoretry_for", ()) or task.max_retries == 0:
        return 0
    factor = float(getattr(task, "retry_backoff", False))
    if not factor:
        options = getattr(task, "retry_kwargs", {})
        pause: float = options.get("countdown", task.default_retry_delay)
        return pause
    longest: float = getattr(task, "retry_backoff_max", 600)
    if task.max_retries is None or task.max_retries > 30:
        return longest
    last = max(1.0, factor) * 2.0 ** (int(task.max_retries) - 1)
    return min(longest, last)


def check_retention(app: Celery) -> Found:
    """W008: a record that is forgotten before its last duplicate has come."""
    visibility = timedelta(seconds=visibility_timeout(app) or 0)
    found: Found = []
    for name, _, job in idempotent_tasks(app):
        lease = (isinstance(job.policy, Leased) and job.policy.lease) or conf().LEASE
        back_within = max(conf().DEFER_FOR, 2 * lease) + visibility
        retention = conf().RETENTION if job.retention is None else job.retention
        if retention < back_within:
            found.append(
                finding(
                    "W008",
                    f"A deferred message of {name} may come back {back_within} after the job is "
                    f"done, and its record is forgotten after {retention}: then it runs again.",
                    "Raise RETENTION, or retention= of the decorator, above DEFER_FOR and the "
                    "broker's visibility timeout.",
                )
            )
    return found


def check_poison(app: Celery) -> Found:
    """W003: deaths that nobody counts."""
    transport = transport_of(app)
    names = [
        name
        for name, task, job in idempotent_tasks(app)
        if isinstance(job.policy, Transactional)
        and task.acks_late
        and survives_its_worker(task)
        and not getattr(task, "retry_on_worker_lost", False)
    ]
    if transport not in UNFLAGGED or not names:
        return []
    return [
        finding(
            "W003",
            f"{transport}:// never says that a message was delivered before, so that "
            f"MAX_REDELIVERIES bounds no transactional job: one of {', '.join(names)} that kills "
            "its worker each time is delivered for ever.",
            "Set CELERY_TASK_RETRY_ON_WORKER_LOST = True (Celery 5.7), which counts such a death "
            "as a retry; or let the queue count (SQS: a redrive policy), and silence this.",
        )
    ]


def check_delivery_limit(app: Celery) -> Found:
    """W024: a queue that drops a message before we stop it."""
    if transport_of(app) not in AMQP:
        return []
    default = app.conf.get("task_default_queue_type")
    limits = {
        name: arguments.get("x-delivery-limit", DELIVERY_LIMIT)
        for name, queue in sorted(app.amqp.queues.items())
        if (arguments := queue.queue_arguments or {}).get("x-queue-type", default) == "quorum"
    }
    return [
        finding(
            "W024",
            f"The quorum queue {name} drops a message, or dead-letters it, after {limit} "
            f"redeliveries, before {conf().MAX_REDELIVERIES} deaths are counted: the job is lost "
            "without a trace in its record.",
            "Set IDEMPOTENCY['MAX_REDELIVERIES'] below the x-delivery-limit of the queue.",
        )
        for name, limit in limits.items()
        if 0 <= limit <= conf().MAX_REDELIVERIES
    ]
