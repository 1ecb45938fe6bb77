"""Ending a doubt, and allowing again: one way for the admin, for commands and for the sweeper."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from django.db import transaction

from idempotency import results
from idempotency.attempts import owner
from idempotency.conf import conf
from idempotency.exceptions import NotInDoubt, NotSettled
from idempotency.models import IdempotencyEvent, IdempotencyRecord, Kind, ParkedMessage
from idempotency.policies import Ask, Doubt, Verdict
from idempotency.states import State

logger = logging.getLogger("idempotency")


class Broker(Protocol):
    """What ``contrib`` knows of parked messages."""

    def publish(self, message: str) -> None:
        """Publish it, as it was when it was parked."""

    def arguments(self, message: str) -> tuple[list[Any], dict[str, Any]]:
        """Its positional and keyword arguments."""


#: Set by ``contrib``; None where there is no broker.
broker: Broker | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """What resolving a doubt came to.

    Attributes:
        published: How many parked messages were published: they replay, or run.
        waiting: How many could not be published yet. ``publish_parked`` sends them later.
    """

    published: int
    waiting: int


def park(using: str, key_hash: UUID, generation: int | None, *, task_id: str, message: str) -> bool:
    """Keep a message until the doubt about its key is resolved.

    Args:
        message: What ``broker`` publishes.

    Returns False when there is no doubt any more: nobody would publish the message then.
    """
    record = IdempotencyRecord.objects.using(using).in_doubt(key_hash, None)
    if generation is not None:
        record = record.filter(generation=generation)
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
    key_hash: UUID,
    verdict: Verdict,
    *,
    reason: str,
    by: str = "",
    using: str | None = None,
    claim_id: UUID | None = None,
) -> Resolution:
    """End the doubt about a key, then publish the messages that wait for it.

    Args:
        key_hash: Of the record in doubt, or of one whose lease ran out after its effect began.
        verdict: ``Verdict.happened(result)``: later deliveries are answered with the result.
            ``Verdict.did_not_happen()``: the next delivery runs.
        reason: Why, for those who read the events later.
        by: Who, for the same readers.
        using: Database alias. Default: the setting ``DATABASE``.
        claim_id: The claim that the verdict is about, so that it ends no later doubt. Default:
            the one in doubt now.

    Raises:
        ValueError: The verdict is ``Verdict.unknown()``, which ends nothing.
        NotInDoubt: There is no doubt: the record is settled, or its lease is alive.
        ResultNotStorable: The verdict's result cannot be stored; nothing was changed.
    """
    if verdict.effect_happened is None:
        raise ValueError("Verdict.unknown() ends no doubt. Nothing was changed.")
    using = using or conf().DATABASE
    text = None
    if verdict.effect_happened:
        text = results.encode(verdict.result, limit=conf().MAX_RESULT_BYTES)
    records = IdempotencyRecord.objects.using(using)
    with transaction.atomic(using=using, durable=True):
        records.doubt_lapsed(key_hash)
        doubt = records.in_doubt(key_hash, claim_id)
        if verdict.effect_happened:
            resolved = doubt.resolve_as_happened(result=text)
        else:
            resolved = doubt.resolve_as_not_happened()
        if not resolved:
            raise NotInDoubt(
                f"The key {key_hash.hex} is not in doubt: {_state_of(key_hash, using)}. "
                "Nothing was changed.",
                key=key_hash.hex,
            )
        said = "It happened" if verdict.effect_happened else "It did not happen"
        announce(Kind.RESOLVED, key_hash, f"{said}, said by {by or 'somebody'}: {reason}", using)
    return publish_parked(key_hash, using=using)


def allow_again(key_hash: UUID, *, reason: str, by: str = "", using: str | None = None) -> None:
    """Reopen a settled record on purpose: the next delivery runs, with a new provider key.

    Args:
        key_hash: Of a record that has succeeded or failed.
        reason: Why, for those who read the events later.
        by: Who, for the same readers.
        using: Database alias. Default: the setting ``DATABASE``.

    Raises:
        NotSettled: It is running, in doubt, or not there; nothing was changed.
    """
    using = using or conf().DATABASE
    records = IdempotencyRecord.objects.using(using)
    with transaction.atomic(using=using, durable=True):
        if not records.allow_again(key_hash):
            raise NotSettled(
                f"The key {key_hash.hex} cannot be allowed again: {_state_of(key_hash, using)}. "
                "Nothing was changed.",
                key=key_hash.hex,
            )
        announce(Kind.ALLOWED_AGAIN, key_hash, f"By {by or 'somebody'}: {reason}", using)


def announce(kind: Kind, key_hash: UUID, note: str, using: str) -> None:
    """Append to the log what was done to a record from outside of an attempt."""
    record = IdempotencyRecord.objects.using(using).get(key_hash=key_hash)
    IdempotencyEvent.objects.using(using).create(
        kind=kind,
        key_hash=key_hash,
        scope=record.scope,
        task_id=record.task_id,
        worker=owner(),
        attempt=record.attempt,
        note=note,
    )


def ask(function: Ask, doubt: Doubt, *, claim_id: UUID | None, using: str) -> bool:
    """Ask about a doubt, and end it by the verdict. Returns whether it has ended."""
    try:
        verdict = function(doubt)
        if not isinstance(verdict, Verdict):
            raise TypeError(f"{function!r} must return a Verdict, not {type(verdict).__name__}.")
        if verdict.effect_happened is None:
            return False
        name = getattr(function, "__qualname__", repr(function))
        resolve(
            doubt.key_hash,
            verdict,
            reason=f"{name} was asked.",
            by="the provider",
            using=using,
            claim_id=claim_id,
        )
    except NotInDoubt:
        pass  # somebody else was faster
    except Exception:
        logger.exception("Asking about key %s failed: the doubt stays.", doubt.key_hash.hex)
        return False
    return True


def publish_parked(key_hash: UUID, *, using: str | None = None) -> Resolution:
    """Publish the messages that waited for a doubt which is resolved now.

    A message is published before the deletion of its row is committed: a crash between the two
    publishes it twice, which is harmless. A message that comes back into doubt at once waits for
    that commit, and is parked anew.
    """
    using = using or conf().DATABASE
    parked = ParkedMessage.objects.using(using).filter(key_hash=key_hash)
    published = waiting = 0
    for row in list(parked):
        try:
            with transaction.atomic(using=using):
                deleted, _ = parked.filter(pk=row.pk).delete()
                if deleted:
                    _publish(row)
        except Exception:
            logger.exception("A parked message of key %s is not published yet.", key_hash.hex)
            waiting += 1
        else:
            published += deleted
    return Resolution(published, waiting)


def _publish(row: ParkedMessage) -> None:
    if broker is None:
        raise RuntimeError("Nothing here can publish messages: is Celery installed?")
    broker.publish(row.message)


def _state_of(key_hash: UUID, using: str) -> str:
    record = IdempotencyRecord.objects.using(using).filter(key_hash=key_hash).first()
    if record is None:
        return "there is no record of it"
    if record.state == State.RUNNING:
        return f"attempt {record.attempt} is running on {record.owner} under a lease"
    return f"its record is {record.get_state_display()}"
