"""What happens to keys, as it happens: Django signals for metrics, alerts and logs.

Each is sent after its fact stands in the database, by ``send_robust``: a receiver that fails is
logged by Django on ``django.dispatch``, and the job goes on. The sender is ``IdempotencyRecord``,
and the arguments are those of :class:`Told`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TypedDict
from uuid import UUID

from django.dispatch import Signal


class Told(TypedDict):
    """The keyword arguments of every signal: never a raw key, an argument or a result."""

    using: str
    """Database alias of the record."""

    key_hash: UUID
    """Of the record, which may not exist: of a key that never ended there is none."""

    scope: str
    """What the key is unique within: usually one task."""

    task_id: str | None
    """Celery's id of the message; None outside of a delivery."""

    attempt: int | None
    """Counted from 1 over all attempts of the record; None where no attempt is meant."""

    worker: str
    """``host:pid`` of the process that sends."""

    duration: timedelta | None
    """How long the body ran; None where it did not."""

    redelivered: bool
    """Whether the broker says that it delivered the message before."""

    note: str
    """More, in a few words: the class of an error, who resolved a doubt and why."""


attempt_claimed = Signal()
"""A leased attempt holds its key, and its body runs next."""

attempt_succeeded = Signal()
"""The body ran, and its success is committed."""

attempt_failed = Signal()
"""The body raised, and a later delivery may claim the key."""

duplicate_replayed = Signal()
"""The key had succeeded before: its result is returned, and the body did not run."""

delivery_deferred = Signal()
"""The key is busy, or the database was lost: the message is published again for later."""

delivery_given_up = Signal()
"""The message was deferred for as long as ``DEFER_FOR`` allows, and is parked."""

claim_taken_over = Signal()
"""An attempt claims a key on which another failed, or died."""

lease_lost = Signal()
"""An attempt comes back after its lease has run out, and settles nothing."""

doubt_found = Signal()
"""The effect may or may not have happened: nothing runs until the doubt is resolved."""

doubt_resolved = Signal()
"""A doubt has ended, by a verdict or by its own attempt."""

claim_released = Signal()
"""Somebody took the claim of a dead attempt away: should it live, it can settle nothing."""

key_exhausted = Signal()
"""Too many attempts have died: nothing runs until the key is allowed again."""

key_allowed_again = Signal()
"""A settled record was reopened on purpose."""

record_purged = Signal()
"""Somebody deleted this forgotten record by hand. A purge of all that is forgotten is silent."""
