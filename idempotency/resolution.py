"""Ending a doubt: one way for the admin, for commands and for the sweeper."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from idempotency import results
from idempotency.attempts import owner
from idempotency.conf import conf
from idempotency.exceptions import NotInDoubt
from idempotency.models import IdempotencyEvent, IdempotencyRecord, Kind, ParkedMessage
from idempotency.policies import Verdict
from idempotency.states import State

logger = logging.getLogger("idempotency")

#: Publishes the text of a parked message. Set by ``contrib``; None where there is no broker.
publisher: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """What resolving a doubt came to.

    Attributes:
        published: How many parked messages were published: they replay, or run.
        waiting: How many could not be published yet. ``publish_parked`` sends them later.
    """

    published: int
    waiting: int


def park(using: str, key_hash: UUID, generation: int, *, task_id: str, message: str) -> bool:
    """Keep a message until the doubt about its key is resolved.

    Args:
        message: What ``publisher`` takes.

    Returns False when there is no doubt any more: nobody would publish the message then.
    """
    record = IdempotencyRecord.objects.using(using).filter(
        key_hash=key_hash, state=State.IN_DOUBT, generation=generation
    )
    with transaction.atomic(using=using):
        # The lock orders parking and resolving: who resolves later sees this message, and who
        # resolved before is seen here.
        if record.select_for_update().first() is None:
            return False
        ParkedMessage.objects.using(using).bulk_create(
            [ParkedMessage(key_hash=key_hash, task_id=task_id, message=message)],
            ignore_conflicts=True,
        )
    return True


def resolve(
    key_hash: UUID, verdict: Verdict, *, reason: str, by: str = "", using: str | None = None
) -> Resolution:
    """End the doubt about a key, then publish the messages that wait for it.

    Args:
        key_hash: Of the record in doubt, or of one whose lease ran out after its effect began.
        verdict: ``Verdict.happened(result)``: later deliveries are answered with the result.
            ``Verdict.did_not_happen()``: the next delivery runs.
        reason: Why, for those who read the events later.
        by: Who, for the same readers.
        using: Database alias. Default: the setting ``DATABASE``.

    Raises:
        NotInDoubt: There is no doubt: the record is settled, or its lease is alive.
        ResultNotStorable: The verdict's result cannot be stored; nothing was changed.
    """
    using = using or conf().DATABASE
    text = None
    if verdict.effect_happened:
        text = results.encode(verdict.result, limit=conf().MAX_RESULT_BYTES)
    records = IdempotencyRecord.objects.using(using)
    with transaction.atomic(using=using, durable=True):
        records.doubt_lapsed(key_hash)
        if verdict.effect_happened:
            resolved = records.resolve_as_happened(key_hash, result=text)
        else:
            resolved = records.resolve_as_not_happened(key_hash)
        if not resolved:
            raise _not_in_doubt(key_hash, using)
        record = records.get(key_hash=key_hash)
        IdempotencyEvent.objects.using(using).create(
            kind=Kind.RESOLVED,
            key_hash=key_hash,
            scope=record.scope,
            task_id=record.task_id,
            worker=owner(),
            attempt=record.attempt,
            note=f"{'It happened' if verdict.effect_happened else 'It did not happen'}, "
            f"said by {by or 'somebody'}: {reason}",
        )
    return publish_parked(key_hash, using=using)


def publish_parked(key_hash: UUID, *, using: str | None = None) -> Resolution:
    """Publish the messages that waited for a doubt which is resolved now.

    Each row is deleted after its message was published: a crash between the two publishes it
    twice, which is harmless.
    """
    using = using or conf().DATABASE
    parked = ParkedMessage.objects.using(using).filter(key_hash=key_hash)
    published = waiting = 0
    for row in list(parked):
        try:
            _publish(row)
        except Exception:
            logger.exception("A parked message of key %s is not published yet.", key_hash.hex)
            waiting += 1
        else:
            row.delete()
            published += 1
    return Resolution(published, waiting)


def _publish(row: ParkedMessage) -> None:
    if publisher is None:
        raise RuntimeError("Nothing here can publish messages: is Celery installed?")
    publisher(row.message)


def _not_in_doubt(key_hash: UUID, using: str) -> NotInDoubt:
    record = IdempotencyRecord.objects.using(using).filter(key_hash=key_hash).first()
    if record is None:
        said = "There is no record of it"
    elif record.state == State.RUNNING:
        said = f"Attempt {record.attempt} is running on {record.owner} under a live lease"
    else:
        said = f"Its record is {record.get_state_display()}"
    return NotInDoubt(
        f"The key {key_hash.hex} is not in doubt: {said}. Nothing was changed.", key=key_hash.hex
    )
