"""What has to be done now and then, whoever calls it: a command, a beat task, an operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import (
    Count,
    DurationField,
    Exists,
    ExpressionWrapper,
    F,
    Max,
    OuterRef,
    Q,
    QuerySet,
)
from django.db.models.functions import Now

from idempotency import parking, resolution
from idempotency.conf import conf
from idempotency.digests import Digest, Key
from idempotency.jobs import Job, all_jobs
from idempotency.models import IdempotencyEvent, IdempotencyRecord, Kind, ParkedMessage
from idempotency.parking import Published, publish_parked
from idempotency.policies import Doubt, Leased, OnDoubt
from idempotency.states import State
from idempotency.storage import storage_for


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep came to.

    Attributes:
        doubts: Claims that had ended silently and are in doubt now.
        resolved: Doubts that the provider could tell about.
        parked: What became of the messages that wait for nothing any more.
    """

    doubts: int
    resolved: int
    parked: Published


def sweep(*, using: str | None = None) -> Swept:
    """Make silent ends visible, ask about doubts, publish what waits for nothing any more.

    Asks those who declared ``Leased(on_doubt=ask)`` on a task of this project.
    Safe to run at any time, also twice at once.

    Args:
        using: Database alias. Default: the setting ``DATABASE``.
    """
    using = using or conf().DATABASE
    doubts = _put_in_doubt(using)
    jobs = all_jobs()
    askable = _records(using).askable().order_by("id")
    resolved = sum(_ask(record, jobs.get(record.scope), using) for record in askable)
    return Swept(doubts, resolved, _publish_left_over(using))


def _records(using: str) -> Any:
    return IdempotencyRecord.objects.using(using)


def _put_in_doubt(using: str) -> int:
    doubts = 0
    for record in _records(using).doubtful().order_by("id"):
        still_doubtful = _records(using).doubtful().filter(pk=record.pk, attempt=record.attempt)
        if not still_doubtful.put_in_doubt():
            continue  # taken over or settled meanwhile
        doubts += 1
        resolution.announce(Kind.IN_DOUBT, record.key_hash, "Found by the sweeper.", using)
    return doubts


def _ask(record: IdempotencyRecord, job: Job | None, using: str) -> bool:
    if job is None or not isinstance(job.policy, Leased):
        return False
    on_doubt = job.policy.on_doubt
    if isinstance(on_doubt, OnDoubt):
        return False
    arguments = None
    # Under the key may wait another task's message too, whose nested call this was.
    parked = ParkedMessage.objects.using(using).filter(
        key_hash=record.key_hash, task_id=record.task_id
    )
    message = parked.exclude(message=None).values_list("message", flat=True).first()
    if message and parking.broker is not None:
        arguments = job.by_name(*parking.broker.arguments(message))
    doubt = Doubt(
        key_hash=record.key_hash,
        scope=record.scope,
        attempt=record.attempt,
        provider_key=record.provider_key,
        begun_at=record.effect_begun_at or record.created_at,
        arguments=arguments,
    )
    return resolution.ask(on_doubt, doubt, claim_id=record.claim_id, using=using)


def _publish_left_over(using: str) -> Published:
    """Left by a crash between a resolution and its publishing, or because they gave up while the
    key was held by somebody who has ended since."""
    held = _records(using).filter(Q(state=State.IN_DOUBT) | Q(exhausted_at__isnull=False))
    left_over = ParkedMessage.objects.using(using).exclude(key_hash__in=held.values("key_hash"))
    done = Published()
    for key_hash in left_over.order_by().values_list("key_hash", flat=True).distinct():
        if _is_free(key_hash, using):
            done += publish_parked(key_hash, using=using)
    return done


def _is_free(key_hash: UUID, using: str) -> bool:
    """Whether nobody runs the key now, with or without a lease."""
    storage = storage_for(using)
    with storage.transaction(joined=storage.in_test_case):
        look = storage.lock_and_look(Key("", (Digest(key_hash, None),), ""))
    return look.locked and (look.seen is None or look.seen.lease_left == 0)


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge came to.

    Attributes:
        records: Settled records that were forgotten, and are deleted.
        events: Events that were older than ``EVENT_RETENTION``, and are deleted.
        lag: For how long the oldest of these records had been forgotten when the purge began;
            None when there was none. Much more than the time between two purges: they are too few.
    """

    records: int
    events: int
    lag: timedelta | None


def purge(
    *,
    using: str | None = None,
    dry_run: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Purged:
    """Delete what is forgotten: never a record that is running, in doubt or exhausted, nor one
    that a parked message waits for. Safe to run at any time, also twice at once.

    Args:
        using: Database alias. Default: the setting ``DATABASE``.
        dry_run: Count what would be deleted, and delete nothing.
        progress: Called after each batch with the number of rows deleted so far.
    """
    using = using or conf().DATABASE
    parked = ParkedMessage.objects.using(using).filter(key_hash=OuterRef("key_hash"))
    records = _records(using).purgeable().filter(~Exists(parked)).order_by()
    events = IdempotencyEvent.objects.using(using).order_by()
    events = events.filter(at__lte=Now() - conf().EVENT_RETENTION)
    age = ExpressionWrapper(Now() - F("expires_at"), output_field=DurationField())
    due = records.aggregate(number=Count("pk"), lag=Max(age))  # one scan
    if dry_run:
        return Purged(due["number"], events.count(), due["lag"])
    done = 0

    def count(deleted: int) -> None:
        nonlocal done
        done += deleted
        if progress:
            progress(done)

    return Purged(_delete(records, count), _delete(events, count), due["lag"])


def _delete(rows: QuerySet[Any], deleted: Callable[[int], None]) -> int:
    """Batch by batch along the primary key: no index on a time is needed, and no lock is long."""
    everything = rows.model._default_manager.using(rows.db).order_by("pk")
    done, low = 0, 0
    while True:
        ids = everything.filter(pk__gt=low).values_list("pk", flat=True)[: conf().PURGE_BATCH]
        high = max(ids, default=None)
        if high is None:
            return done
        number, _ = rows.filter(pk__gt=low, pk__lte=high).delete()
        done, low = done + number, high
        deleted(number)
