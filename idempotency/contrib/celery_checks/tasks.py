"""What a task's own options say of its message and of its time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from celery import Celery

from idempotency.checks.findings import Found, finding
from idempotency.exceptions import InDoubt
from idempotency.jobs import Job
from idempotency.policies import Leased


def idempotent_tasks(app: Celery) -> Iterator[tuple[str, Any, Job]]:
    """The tasks of the application whose body is ours."""
    for name, task in sorted(app.tasks.items()):
        job = getattr(task.run, "__idempotent__", None)
        if job is not None:
            yield name, task, job


def hard_limit(app: Celery, task: Any) -> float | None:
    """Seconds after which Celery kills the body; None if it never does.

    Raises:
        TypeError: It is no number.
    """
    limit = task.time_limit or app.conf.task_time_limit
    return seconds(limit, f"the time limit of {task.name}") if limit else None


def seconds(value: Any, name: str) -> float:
    """The value of a setting, which Celery takes as it is.

    Raises:
        TypeError: It is no number.
    """
    if not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}, and no number of seconds")
    return value


def survives_its_worker(task: Any) -> bool:
    """Whether its message comes again when the pool process is killed."""
    return bool(task.reject_on_worker_lost or getattr(task, "retry_on_worker_lost", False))


def check_deaths(app: Celery) -> Found:
    """W001 and W002: what becomes of the message when its worker dies."""
    found: Found = []
    for name, task, _ in idempotent_tasks(app):
        if not task.acks_late:
            found.append(
                finding(
                    "W001",
                    f"The message of {name} is acknowledged before it runs: a worker that dies "
                    "loses the job, and nothing will repeat it.",
                    "Set acks_late=True on the task, or CELERY_TASK_ACKS_LATE = True.",
                )
            )
        elif not survives_its_worker(task):
            found.append(
                finding(
                    "W002",
                    f"When the pool process of {name} is killed (out of memory, SIGKILL), Celery "
                    "acknowledges its message: the job is lost, and nothing will repeat it.",
                    "Set reject_on_worker_lost=True on the task, or "
                    "CELERY_TASK_REJECT_ON_WORKER_LOST = True.",
                )
            )
    return found


def check_leases(app: Celery) -> Found:
    """W006: a lease that is given up before the body is."""
    return [
        finding(
            "W006",
            f"The body of {name} may run for {limit:.0f} s, and its lease is renewed for "
            f"{job.policy.max_run.total_seconds():.0f} s only: after that it counts as dead while "
            "it still runs.",
            "Leave max_run= out: it is then the task's hard time limit.",
        )
        for name, task, job in idempotent_tasks(app)
        if isinstance(job.policy, Leased)
        and job.policy.max_run
        and (limit := hard_limit(app, task))
        and job.policy.max_run < timedelta(seconds=limit)
    ]


def check_time_limits(app: Celery) -> Found:
    """W005: a body that nothing ends."""
    names = [
        name
        for name, task, job in idempotent_tasks(app)
        if isinstance(job.policy, Leased)
        and job.policy.max_run is None
        and hard_limit(app, task) is None
    ]
    if not names:
        return []
    return [
        finding(
            "W005",
            f"Nothing ends the body of {', '.join(names)}: one that hangs keeps its worker's "
            "process, and after an hour it counts as dead while it still runs.",
            "Set time_limit= on the task, or CELERY_TASK_TIME_LIMIT, in seconds.",
        )
    ]


def check_retries(app: Celery) -> Found:
    """W022: a retry of a message that is parked."""
    return [
        finding(
            "W022",
            f"autoretry_for of {name} takes InDoubt for an error that passes: the message that is "
            "parked until the doubt is resolved is sent again as well, and finds the doubt again.",
            "Set dont_autoretry_for=(IdempotencyError,) on the task.",
        )
        for name, task, job in idempotent_tasks(app)
        if isinstance(job.policy, Leased)
        and issubclass(InDoubt, tuple(getattr(task, "autoretry_for", ())))
        and not issubclass(InDoubt, tuple(getattr(task, "dont_autoretry_for", ())))
    ]


def check_bodies(app: Celery) -> Found:
    """W034: tasks whose bodies are one decorated function, such as the run() of a base class."""
    found: Found = []
    first: dict[int, str] = {}
    for name, _, job in idempotent_tasks(app):
        other = first.setdefault(id(job), name)
        if other != name and not job.uses_task_id:
            found.append(
                finding(
                    "W034",
                    f"The tasks {other} and {name} have one decorated body, and so one scope: "
                    "with the same key, the one is answered with the result of the other.",
                    "Decorate a run() in each class, with a scope= of its own. If the one is only "
                    "another name of the other, silence this.",
                )
            )
    return found


def check_pickle(app: Celery) -> Found:
    """W014: arguments that cannot be kept."""
    return [
        finding(
            "W014",
            f"The arguments of {name} are pickled: those that are no JSON cannot be kept while its "
            "message is parked, and somebody has to send it again.",
            'Set serializer="json" on the task, or CELERY_TASK_SERIALIZER = "json", the default.',
        )
        for name, task, _ in idempotent_tasks(app)
        if (task.serializer or app.conf.task_serializer) == "pickle"
    ]
