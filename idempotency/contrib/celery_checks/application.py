"""What the application as a whole is told."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.app.defaults import DEFAULTS
from celery.backends.base import BaseBackend, KeyValueStoreBackend
from celery.beat import ScheduleEntry

from idempotency.checks.findings import Found, finding

#: The tasks of `celery_tasks`, and what is left undone without them.
MAINTENANCE = {
    "idempotency.purge": "deletes what is forgotten",
    "idempotency.sweep": "finds doubts of which no further delivery tells",
}


def check_chords(app: Celery) -> Found:
    """W019: a backend that counts a chord's member twice that is delivered twice."""
    try:
        backend = app.backend
    except Exception:  # Celery says itself, and better, what is wrong with it
        return []
    if not _counts_twice(backend):
        return []
    name = f"{type(backend).__module__}.{type(backend).__qualname__}"
    return [
        finding(
            "W019",
            f"The result backend {name} counts a chord's member again when it is delivered again, "
            "so that the chord's body runs too early, or never.",
            "For chords use Redis with result_chord_ordered, the default, or a backend that "
            "polls: rpc:// or db+...://. Without chords, silence this.",
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


def check_deduplication(app: Celery) -> Found:
    """W018: a second one who answers duplicates."""
    if not app.conf.worker_deduplicate_successful_tasks:
        return []
    return [
        finding(
            "W018",
            "worker_deduplicate_successful_tasks answers a redelivered message before the record "
            "can: a member of a chord is then not counted, and before Celery 5.6.3 its chain ends.",
            "Leave CELERY_WORKER_DEDUPLICATE_SUCCESSFUL_TASKS out: the record does what it does.",
        )
    ]


def check_eager(app: Celery) -> Found:
    """W009: no messages at all."""
    if not app.conf.task_always_eager:
        return []
    return [
        finding(
            "W009",
            "task_always_eager runs every task where it is sent: nothing is delivered again, and a "
            "job that dies with its process is lost.",
            "Leave CELERY_TASK_ALWAYS_EAGER out of the settings that are deployed.",
        )
    ]


def check_beat(app: Celery) -> Found:
    """W011: maintenance that nobody has scheduled."""
    if app.conf.beat_scheduler != DEFAULTS["beat_scheduler"]:
        return []  # it keeps its schedule somewhere else
    scheduled = {_task_of(entry) for entry in app.conf.beat_schedule.values()}
    undone = {task: what for task, what in MAINTENANCE.items() if task not in scheduled}
    if not undone:
        return []
    return [
        finding(
            "W011",
            f"{' and '.join(undone)} are not in the beat schedule: nothing "
            f"{', and nothing '.join(undone.values())}.",
            "Add them to CELERY_BEAT_SCHEDULE: {'purge': {'task': 'idempotency.purge', 'schedule': "
            "timedelta(days=1)}, 'sweep': {'task': 'idempotency.sweep', 'schedule': "
            "timedelta(minutes=1)}}. Where cron runs the commands instead, silence this.",
        )
    ]


def _task_of(entry: Any) -> str | None:
    # Without a task it is legal, too. (celery/beat.py, _maybe_entry)
    task: str | None = entry.task if isinstance(entry, ScheduleEntry) else entry.get("task")
    return task
