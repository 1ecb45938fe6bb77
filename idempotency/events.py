"""What happened to a key: told to whoever listens, and appended to the log in the database."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import DatabaseError, InterfaceError, transaction
from django.db.models.functions import Now
from django.dispatch import Signal

from idempotency import signals
from idempotency.attempts import owner
from idempotency.models import IdempotencyEvent, IdempotencyRecord, Kind
from idempotency.signals import Told
from idempotency.storage import storage_for

logger = logging.getLogger("idempotency")

#: What a storm on one key would fill the log with: so many a minute are kept of each.
SAMPLED = frozenset({Kind.DUPLICATE, Kind.DEFERRED, Kind.FAILED, Kind.TAKEN_OVER, Kind.LEASE_LOST})
PER_MINUTE = 10

SIGNALS: dict[Kind, Signal] = {
    Kind.FAILED: signals.attempt_failed,
    Kind.DUPLICATE: signals.duplicate_replayed,
    Kind.DEFERRED: signals.delivery_deferred,
    Kind.TAKEN_OVER: signals.claim_taken_over,
    Kind.LEASE_LOST: signals.lease_lost,
    Kind.IN_DOUBT: signals.doubt_found,
    Kind.RESOLVED: signals.doubt_resolved,
    Kind.RELEASED: signals.claim_released,
    Kind.ALLOWED_AGAIN: signals.key_allowed_again,
    Kind.EXHAUSTED: signals.key_exhausted,
    Kind.GAVE_UP: signals.delivery_given_up,
    Kind.PURGED: signals.record_purged,
}


def told(
    *,
    using: str,
    key_hash: UUID,
    scope: str,
    task_id: str | None,
    attempt: int | None = None,
    duration: timedelta | None = None,
    redelivered: bool = False,
    note: str = "",
) -> Told:
    """What a signal says, with what goes without saying filled in."""
    return Told(
        using=using,
        key_hash=key_hash,
        scope=scope,
        task_id=task_id,
        attempt=attempt,
        worker=owner(),
        duration=duration,
        redelivered=redelivered,
        note=note,
    )


def tell(signal: Signal, about: Told) -> None:
    """Send a signal. A receiver that fails must not undo the work that it is told of."""
    signal.send_robust(sender=IdempotencyRecord, **about)


def tell_with_commit(signal: Signal, about: Told) -> None:
    """Send a signal once the open transaction is committed; what rolls back is not told."""
    transaction.on_commit(partial(tell, signal, about), using=about["using"], robust=True)


def announce(kind: Kind, about: Told) -> None:
    """Tell of it, then append it to the log: an error there is logged, and undoes nothing."""
    tell(SIGNALS[kind], about)
    storage = storage_for(about["using"])
    try:
        with storage.transaction(joined=storage.connection.in_atomic_block):
            if kind not in SAMPLED or _is_rare(kind, about):
                _append(kind, about)
    except (DatabaseError, InterfaceError):
        logger.warning("The event %r could not be written.", kind.value, exc_info=True)


def announce_with_commit(kind: Kind, about: Told) -> None:
    """Append it to the log in the open transaction, and tell of it once that is committed."""
    _append(kind, about)
    tell_with_commit(SIGNALS[kind], about)


def _append(kind: Kind, about: Told) -> None:
    columns: dict[str, Any] = {**about}
    IdempotencyEvent.objects.using(columns.pop("using")).create(kind=kind, **columns)


def _is_rare(kind: Kind, about: Told) -> bool:
    recent = IdempotencyEvent.objects.using(about["using"]).filter(
        key_hash=about["key_hash"], kind=kind, at__gt=Now() - timedelta(minutes=1)
    )
    return recent.order_by()[:PER_MINUTE].count() < PER_MINUTE
