"""What in Celery's configuration breaks a promise: said by ``manage.py check`` and by a worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from celery import Celery, current_app
from celery.signals import celeryd_after_setup
from django.core import checks
from django.core.checks import CheckMessage

from idempotency.checks.findings import TAG, Found, finding, register
from idempotency.conf import problems
from idempotency.contrib.celery_checks import application, broker, tasks
from idempotency.jobs import all_jobs

logger = logging.getLogger("idempotency")

CHECKS: tuple[Callable[[Celery], Found], ...] = (
    tasks.check_deaths,
    tasks.check_leases,
    tasks.check_retries,
    tasks.check_pickle,
    tasks.check_bodies,
    broker.check_forgetting,
    broker.check_confirms,
    broker.check_visibility,
    broker.check_retention,
    broker.check_poison,
    broker.check_delivery_limit,
    application.check_chords,
    application.check_deduplication,
)
DEPLOY_CHECKS: tuple[Callable[[Celery], Found], ...] = (
    tasks.check_time_limits,
    application.check_eager,
    application.check_beat,
)


def check_celery() -> Found:
    """Check the current Celery application."""
    return _run(CHECKS)


def check_celery_deployed() -> Found:
    """Check what is right on a developer's machine."""
    return _run(DEPLOY_CHECKS)


def _run(checks: tuple[Callable[[Celery], Found], ...]) -> Found:
    all_jobs()
    app = current_app._get_current_object()  # type: ignore[attr-defined] # of a proxy
    if problems() or not list(tasks.idempotent_tasks(app)):
        return []
    found: Found = []
    unread: dict[str, None] = {}  # most checks stumble over the same
    for check in checks:
        try:
            found += check(app)
        except Exception as error:  # each transport and each setting has errors of its own
            unread[broker.told(app, error)] = None
    return found + ([_unreadable(unread)] if unread else [])


def _unreadable(errors: Iterable[str]) -> CheckMessage:
    return finding(
        "W032",
        f"Celery's configuration cannot be read here ({'; '.join(errors)}): what depends on it is "
        "not checked.",
        "Correct CELERY_BROKER_URL (the environment's, if there is one, wins over the setting), "
        "CELERY_BROKER_TRANSPORT_OPTIONS or the setting that is named. Where only workers have the "
        "broker's client, silence this.",
    )


@celeryd_after_setup.connect
def log_checks(**_: Any) -> None:
    """A worker runs Django's checks and throws away what they find: ours are logged."""
    for message in checks.run_checks(tags=[TAG]):
        if not message.is_silenced():
            logger.log(message.level, "%s", message)


register(check_celery)
register(check_celery_deployed, deploy=True)
