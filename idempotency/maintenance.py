"""What has to be done now and then, whoever calls it: a command, a beat task, an operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from idempotency import resolution
from idempotency.calls import jobs
from idempotency.conf import conf
from idempotency.models import IdempotencyRecord, Kind, ParkedMessage
from idempotency.policies import Doubt, Leased, OnDoubt
from idempotency.states import State


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep came to.

    Attributes:
        doubts: Claims that had ended silently and are in doubt now.
        resolved: Doubts that the provider could tell about.
        published: Messages that waited for a doubt which was resolved before.
        waiting: Such messages that could not be published.
    """

    doubts: int
    resolved: int
    published: int
    waiting: int


def sweep(*, using: str | None = None) -> Swept:
    """Make silent ends visible, ask about doubts, publish what waits for nothing any more.

    Asks those who declared ``Leased(on_doubt=ask)`` on a task whose module is imported here.
    Safe to run at any time, also twice at once.

    Args:
        using: Database alias. Default: the setting ``DATABASE``.
    """
    using = using or conf().DATABASE
    doubts = _put_in_doubt(using)
    resolved = sum(_ask(record, using) for record in _records(using).askable().order_by("id"))
    published, waiting = _publish_left_over(using)
    return Swept(doubts, resolved, published, waiting)


def _records(using: str) -> Any:
    return IdempotencyRecord.objects.using(using)


def _put_in_doubt(using: str) -> int:
    doubts = 0
    for record in _records(using).doubtful().order_by("id"):
        if not _records(using).filter(pk=record.pk, attempt=record.attempt).leave_doubtful():
            continue  # taken over or settled meanwhile
        doubts += 1
        resolution.announce(Kind.IN_DOUBT, record.key_hash, "Found by the sweeper.", using)
    return doubts


def _ask(record: IdempotencyRecord, using: str) -> bool:
    job = jobs.get(record.scope)
    if job is None or not isinstance(job.policy, Leased):
        return False
    on_doubt = job.policy.on_doubt
    if isinstance(on_doubt, OnDoubt):
        return False
    arguments = None
    parked = ParkedMessage.objects.using(using).filter(key_hash=record.key_hash).first()
    if parked is not None and resolution.broker is not None:
        arguments = job.by_name(*resolution.broker.arguments(parked.message))
    doubt = Doubt(
        key_hash=record.key_hash,
        scope=record.scope,
        attempt=record.attempt,
        provider_key=record.provider_key,
        begun_at=record.effect_begun_at or record.created_at,
        arguments=arguments,
    )
    return resolution.ask(on_doubt, doubt, claim_id=record.claim_id, using=using)


def _publish_left_over(using: str) -> tuple[int, int]:
    """A crash between a resolution and its publishing leaves these behind."""
    in_doubt = _records(using).filter(state=State.IN_DOUBT).values("key_hash")
    left_over = ParkedMessage.objects.using(using).exclude(key_hash__in=in_doubt)
    published = waiting = 0
    for key_hash in set(left_over.values_list("key_hash", flat=True)):
        done = resolution.publish_parked(key_hash, using=using)
        published, waiting = published + done.published, waiting + done.waiting
    return published, waiting
