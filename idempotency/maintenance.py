"""What has to be done now and then, whoever calls it: a command, a beat task, an operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Q

from idempotency import parking, resolution
from idempotency.conf import conf
from idempotency.digests import Digest, Key
from idempotency.jobs import all_jobs
from idempotency.models import IdempotencyRecord, Kind, ParkedMessage
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
    resolved = sum(_ask(record, using) for record in _records(using).askable().order_by("id"))
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


def _ask(record: IdempotencyRecord, using: str) -> bool:
    job = all_jobs().get(record.scope)
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
