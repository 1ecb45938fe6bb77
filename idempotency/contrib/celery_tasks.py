"""Maintenance as Celery tasks, ready for beat: ``idempotency.sweep`` and ``idempotency.purge``.

What each came to is returned, for Celery's log, and logged, for ours; no result is stored.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from celery import shared_task

from idempotency import maintenance

logger = logging.getLogger("idempotency")


@shared_task(name="idempotency.sweep", ignore_result=True)
def sweep() -> dict[str, Any]:
    """Run :func:`idempotency.maintenance.sweep`; every minute or so."""
    swept = asdict(maintenance.sweep())
    logger.info("Swept: %s", swept)
    return swept


@shared_task(name="idempotency.purge", ignore_result=True)
def purge() -> dict[str, Any]:
    """Run :func:`idempotency.maintenance.purge`; every day, or more often."""
    purged = maintenance.purge().as_json()
    logger.info("Purged, the lag in seconds: %s", purged)
    return purged
