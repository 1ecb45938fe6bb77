"""Maintenance as Celery tasks, ready for beat: ``idempotency.sweep`` and ``idempotency.purge``.

Each sees to every database that holds records, one after the other. What each came to is returned
by alias, for Celery's log, and logged, for ours; no result is stored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from celery import shared_task

from idempotency import maintenance
from idempotency.checks.databases import aliases

logger = logging.getLogger("idempotency")


@shared_task(name="idempotency.sweep", ignore_result=True)
def sweep() -> dict[str, Any]:
    """Run :func:`idempotency.maintenance.sweep`; every minute or so."""
    swept = _on_each(lambda alias: asdict(maintenance.sweep(using=alias)))
    logger.info("Swept: %s", swept)
    return swept


@shared_task(name="idempotency.purge", ignore_result=True)
def purge() -> dict[str, Any]:
    """Run :func:`idempotency.maintenance.purge`; every day, or more often."""
    purged = _on_each(lambda alias: maintenance.purge(using=alias).as_json())
    logger.info("Purged, the lag in seconds: %s", purged)
    return purged


def _on_each(see_to: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """What it came to, by alias. A database that is away keeps nothing from the others."""
    came: dict[str, Any] = {}
    errors: list[Exception] = []
    for alias in aliases():
        try:
            came[alias] = see_to(alias)
        except Exception as error:  # whatever it is, the task ends with it
            logger.warning("On %r it ended early: %s", alias, error)
            errors.append(error)
    if errors:
        raise errors[0]
    return came
