"""What has to be done now and then, whoever calls it: a command, a beat task, an operator."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, transaction
from django.db.models import (
    Count,
    Exists,
    Max,
    OuterRef,
    Q,
    QuerySet,
)
from django.db.models.functions import Now

from idempotency import parking, resolution
from idempotency.conf import conf
from idempotency.jobs import Job, all_jobs
from idempotency.models import IdempotencyEvent, IdempotencyRecord, Kind, ParkedMessage
from idempotency.parking import Published, publish_parked
from idempotency.policies import ASK, Ask, Doubt, Leased, OnDoubt
from idempotency.querysets import time_since
from idempotency.states import State
from idempotency.storage import storage_for
from idempotency.storage.batches import batches

logger = logging.getLogger("idempotency")

#: How long a purge waits for a row, and those who want one of its batch for the purge. Below the
#: server's ``deadlock_timeout`` of a second, so that none of them is taken for a deadlock.
PATIENCE = timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep came to.

    Attributes:
        doubts: Claims that had ended silently and are in doubt now.
        asked: Doubts that somebody was asked about.
        resolved: Doubts that the provider could tell about.
        parked: What became of the messages that wait for nothing any more.
    """

    doubts: int
    asked: int
    resolved: int
    parked: Published


class _Tally:
    """How far a long run is, told to ``say`` each time that it grows."""

    def __init__(self, say: Callable[[int], None] | None) -> None:
        self._say = say
        self._done = 0

    def add(self, number: int = 1) -> None:
        self._done += number
        if self._say is not None:
            self._say(self._done)


def sweep(
    *,
    using: str | None = None,
    dry_run: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Swept:
    """Make silent ends visible, ask about doubts, publish what waits for nothing any more.

    Asks those who declared ``Leased(on_doubt=ask)`` on a task of this project.
    Safe to run at any time, also twice at once.

    Args:
        using: Database alias. Default: the setting ``DATABASE``.
        dry_run: Count what would be put in doubt, asked about and published, and do none of it.
            What an answer would change is not known.
        progress: Called after each of these with the number of those done so far.

    Raises:
        InsideTransaction: A transaction is open that is not ours; nothing was changed.
    """
    using = using or conf().DATABASE
    storage_for(using).refuse_foreign_transaction()
    tally = _Tally(progress)
    if dry_run:
        return _rehearsed(using, tally)
    doubts = _put_in_doubt(using, tally)
    parked = _publish_left_over(using, tally)
    asked = resolved = 0
    askable = list(_records(using).askable().order_by("id"))
    # Only if there is something to ask: it imports the project's tasks, which may fail.
    jobs = all_jobs() if askable else {}
    for record in askable:
        job = jobs.get(record.scope)
        function = _function_to_ask(job)
        if job is not None and function is not None:
            resolved += _ask(function, job, record, using)
            asked += 1
            tally.add()
    return Swept(doubts, asked, resolved, parked)


def _rehearsed(using: str, tally: _Tally) -> Swept:
    """What a sweep would come to, as far as it can be known without asking."""
    doubtful = _records(using).doubtful()
    askable = _records(using).askable() | doubtful.filter(policy=ASK)
    known = all_jobs()
    asked = [
        scope
        for scope in askable.values_list("scope", flat=True)
        if _function_to_ask(known.get(scope)) is not None
    ]
    parked = _publish_left_over(using, tally, dry_run=True)
    return Swept(doubtful.count(), len(asked), 0, parked)


def _records(using: str) -> Any:
    return IdempotencyRecord.objects.using(using)


def _put_in_doubt(using: str, tally: _Tally) -> int:
    storage, doubts = storage_for(using), 0
    found = _records(using).doubtful().order_by("id").values_list("key_hash", flat=True)
    for key_hash in found:
        # One transaction for each: so many locks at once the server has no room for.
        # (PostgreSQL manual, "max_locks_per_transaction")
        with storage.transaction_on(key_hash) as look:
            doubt = _records(using).doubtful().filter(key_hash=key_hash)
            # It runs in a transaction, or was taken over or settled meanwhile.
            if not look.locked or not doubt.put_in_doubt():
                continue
            resolution.announce(Kind.IN_DOUBT, key_hash, "Found by the sweeper.", using)
        doubts += 1
        tally.add()
    return doubts


def _function_to_ask(job: Job | None) -> Ask | None:
    if job is None or not isinstance(job.policy, Leased):
        return None
    on_doubt = job.policy.on_doubt
    return None if isinstance(on_doubt, OnDoubt) else on_doubt


def _ask(function: Ask, job: Job, record: IdempotencyRecord, using: str) -> bool:
    doubt = Doubt(
        key_hash=record.key_hash,
        scope=record.scope,
        attempt=record.attempt,
        provider_key=record.provider_key,
        begun_at=record.effect_begun_at or record.created_at,
        arguments=_arguments(job, record, using),
    )
    return resolution.ask(function, doubt, claim_id=record.claim_id, using=using)


def _arguments(job: Job, record: IdempotencyRecord, using: str) -> Mapping[str, Any] | None:
    """Those of the doubt's message, if it was kept and can be read here."""
    # Under the key may wait another task's message too, whose nested call this was.
    parked = ParkedMessage.objects.using(using).filter(
        key_hash=record.key_hash, task_id=record.task_id
    )
    message = parked.exclude(message=None).values_list("message", flat=True).first()
    if not message or parking.broker is None:
        return None
    try:
        return job.by_name(*parking.broker.arguments(message))
    except Exception:
        logger.exception("The doubt of %s is asked about without its arguments.", record.task_id)
        return None


def _publish_left_over(using: str, tally: _Tally, *, dry_run: bool = False) -> Published:
    """Left by a crash between a resolution and its publishing, or because they gave up while the
    key was held by somebody who has ended since."""
    held = _records(using).filter(Q(state=State.IN_DOUBT) | Q(exhausted_at__isnull=False))
    held |= _records(using).doubtful()
    left_over = ParkedMessage.objects.using(using).exclude(key_hash__in=held.values("key_hash"))
    done = Published()
    for key_hash in left_over.order_by().values_list("key_hash", flat=True).distinct():
        if _is_free(key_hash, using):
            done += publish_parked(key_hash, using=using, dry_run=dry_run)
            tally.add()
    return done


def _is_free(key_hash: UUID, using: str) -> bool:
    """Whether nobody runs the key now, with or without a lease."""
    with storage_for(using).transaction_on(key_hash) as look:
        return look.locked and (look.seen is None or look.seen.lease_left == 0)


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge came to.

    Attributes:
        records: Settled records that were forgotten, and are deleted.
        events: Events that were older than ``EVENT_RETENTION``, and are deleted.
        lag: For how long the oldest of these records (of the first batch that held one) had been
            forgotten; None when there was none. Much more than the time between two purges: they
            are too few.
    """

    records: int
    events: int
    lag: timedelta | None

    def as_json(self) -> dict[str, Any]:
        """For programs: the lag in seconds."""
        return asdict(self) | {"lag": None if self.lag is None else self.lag.total_seconds()}


def purge(
    *,
    using: str | None = None,
    dry_run: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Purged:
    """Delete what is forgotten: never a record that is running, in doubt or exhausted, nor one
    that a parked message waits for. Safe to run at any time, also twice at once.

    On PostgreSQL it goes along the pages of the table: what is written while it runs may come to
    lie where it has been already, or behind all, and is left to the next purge.

    Args:
        using: Database alias. Default: the setting ``DATABASE``.
        dry_run: Count what would be deleted, and delete nothing.
        progress: Called after each batch with the number of rows deleted so far.
    """
    using = using or conf().DATABASE
    records = forgotten(using).order_by()
    events = IdempotencyEvent.objects.using(using).order_by()
    events = events.filter(at__lte=Now() - conf().EVENT_RETENTION)
    if dry_run:
        due = records.aggregate(number=Count("pk"), lag=Max(time_since("expires_at")))  # one scan
        return Purged(due["number"], events.count(), due["lag"])
    tally = _Tally(progress)
    number, lag = _delete(records, "expires_at", tally)
    return Purged(number, _delete(events, "at", tally)[0], lag)


def forgotten(using: str) -> Any:
    """The records that a purge deletes."""
    parked = ParkedMessage.objects.using(using).filter(key_hash=OuterRef("key_hash"))
    return _records(using).purgeable().filter(~Exists(parked))


def purge_chosen(
    pks: Sequence[int], *, reason: str, by: str = "", using: str | None = None
) -> list[IdempotencyRecord]:
    """Delete those of the chosen records that a purge would delete, in batches.

    Args:
        pks: Their primary keys.
        reason: Why, for those who read the events later.
        by: Who, for the same readers.
        using: Database alias. Default: the setting ``DATABASE``.

    Returns those that were deleted.
    """
    using = using or conf().DATABASE
    size = conf().PURGE_BATCH
    deleted: list[IdempotencyRecord] = []
    for low in range(0, len(pks), size):
        chosen = forgotten(using).filter(pk__in=pks[low : low + size])
        with transaction.atomic(using=using, durable=True):
            batch = list(chosen.order_by("pk").defer("result").select_for_update())
            for record in batch:
                note = f"By {by or 'somebody'}: {reason}"
                resolution.announce(Kind.PURGED, record.key_hash, note, using)
            _records(using).filter(pk__in=[record.pk for record in batch]).delete()
        deleted += batch
    return deleted


def _delete(rows: QuerySet[Any], column: str, tally: _Tally) -> tuple[int, timedelta | None]:
    """Batch by batch, each a short transaction of its own, so that no lock is long.

    Returns how many, and how long ago the oldest ``column`` was in the first batch that held one:
    rows lie in the order of time, mostly, and to ask every batch would take as long again.
    """
    done, oldest = 0, None
    for batch in batches(rows, conf().PURGE_BATCH):
        if oldest is None:
            oldest = batch.aggregate(age=Max(time_since(column)))["age"]
        number = _delete_batch(batch) if oldest is not None else 0
        done += number
        tally.add(number)
    return done, oldest


def _delete_batch(batch: QuerySet[Any]) -> int:
    storage = storage_for(batch.db)
    if not storage.connection.get_autocommit():  # somebody else commits it
        return _delete_at_once(batch)
    try:
        with storage.transaction():
            storage.stand_back(PATIENCE)
            return _delete_at_once(batch)
    except DatabaseError as error:
        if not (storage.has_other_writers and storage.is_lock_timeout(error)):
            raise
        logger.info("A batch is left to the next purge: somebody writes one of its rows.")
        return 0


def _delete_at_once(batch: QuerySet[Any]) -> int:
    # One guarded DELETE. Where any receiver listens to deletions, delete() reads the rows and
    # deletes by their ids, whatever they have become meanwhile. (django/db/models/deletion.py)
    return batch._raw_delete(batch.db)
