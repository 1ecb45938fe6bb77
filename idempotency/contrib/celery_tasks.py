"""Maintenance as Celery tasks, ready for beat: ``idempotency.sweep`` and ``idempotency.purge``."""

from __future__ import annotations

import logging

from celery import shared_task

from idempotency import maintenance

logger = logging.getLogger("idempotency")


@shared_task(name="idempotency.sweep", ignore_result=True)
def sweep() -> None:
    """Run :func:`idempotency.maintenance.sweep`; every minute or so."""
    swept = maintenance.sweep()
    logger.info("Swept: %s", swept)


@shared_task(name="idempotency.purge", ignore_result=True)
def purge() -> None:
    """Run :func:`idempotency.maintenance.purge`; every day, or more often."""
    purged = maintenance.purge()
    logger.info("Purged: %s", purged)
