"""Messages that wait until they may be delivered again: kept, and published by whoever may."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from django.db import transaction

from idempotency import events
from idempotency.conf import conf
from idempotency.models import IdempotencyRecord, Kind, ParkedMessage, Reason
from idempotency.signals import Told
from idempotency.storage import storage_for

logger = logging.getLogger("idempotency")


class Broker(Protocol):
    """What ``contrib`` knows of parked messages."""

    def publish(self, message: str) -> None:
        """Publish it, as it was when it was parked."""

    def arguments(self, message: str) -> tuple[list[Any], dict[str, Any]]:
        """Its positional and keyword arguments."""
        ...


#: Set by ``contrib``; None where there is no broker.
broker: Broker | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """What became of the messages that waited.

    Attributes:
        published: Delivered again soon: they replay, or run.
        waiting: Not published yet, because of an error that is logged. The sweeper tries again.
        not_kept: Gone: only their task ids were kept, and are logged. Send them again yourself.
    """

    published: int = 0
    waiting: int = 0
    not_kept: int = 0

    def __add__(self, other: Published) -> Published:
        return Published(
            self.published + other.published,
            self.waiting + other.waiting,
            self.not_kept + other.not_kept,
        )


def park(
    using: str,
    key_hash: UUID,
    reason: Reason,
    *,
    task_id: str,
    message: str | None,
    generation: int | None = None,
) -> bool:
    """Keep a message until somebody or something may publish it.

    Args:
        message: What ``broker`` publishes; None when it is not kept.
        generation: Of the record that the message waits for; None is any.

    Raises:
        InsideTransaction: A transaction is open that is not ours, with which it could be lost.
        ManualCommit: The connection is in manual commit mode.

    Returns False when there is nothing to wait for any more: nobody would publish it then.
    """
    records = IdempotencyRecord.objects.using(using)
    if reason is Reason.EXHAUSTED:
        waited_for = records.exhausted().filter(key_hash=key_hash)
    else:
        waited_for = records.in_doubt(key_hash, None)
    if generation is not None:
        waited_for = waited_for.filter(generation=generation)
    with _transaction(using):
        # The lock orders parking and resolving: who resolves later sees this message, and who
        # resolved before is seen here.
        if not waited_for.select_for_update().first():
            return False
        _keep(using, key_hash, reason, task_id, message)
    return True


@contextmanager
def _transaction(using: str) -> Iterator[None]:
    """One of our own, on disk at its end: the delivery is acknowledged then, and nothing else has
    its message."""
    storage = storage_for(using)
    storage.refuse_foreign_transaction()
    with storage.transaction(joined=storage.in_test_case):
        storage.flush_at_commit()
        yield


def _keep(using: str, key_hash: UUID, reason: Reason, task_id: str, message: str | None) -> None:
    row = ParkedMessage(key_hash=key_hash, task_id=task_id, reason=reason, message=message)
    ParkedMessage.objects.using(using).bulk_create([row], ignore_conflicts=True)


def give_up(about: Told, *, task_id: str, message: str) -> None:
    """Park a message that was deferred for too long, and say so. The sweeper publishes it.

    Raises what ``park()`` raises.
    """
    with _transaction(about["using"]):
        _keep(about["using"], about["key_hash"], Reason.GAVE_UP, task_id, message)
        events.announce_with_commit(Kind.GAVE_UP, about)


def publish_parked(key_hash: UUID, *, using: str | None = None, dry_run: bool = False) -> Published:
    """Publish the messages of a key, now that they may run or be answered.

    A message is published before the deletion of its row is committed: a crash between the two
    publishes it twice, which is harmless. A message that comes back into doubt at once waits for
    that commit, and is parked anew.

    A ``dry_run`` counts what would be published, and publishes nothing.
    """
    using = using or conf().DATABASE
    parked = ParkedMessage.objects.using(using).filter(key_hash=key_hash)
    if dry_run:
        not_kept = parked.filter(message=None).count()
        return Published(published=parked.count() - not_kept, not_kept=not_kept)
    done = Published()
    for row in list(parked):
        try:
            with transaction.atomic(using=using):
                deleted, _ = parked.filter(pk=row.pk).delete()
                if deleted:
                    done += _publish(row)
        except Exception:
            logger.exception("A parked message of key %s is not published yet.", key_hash.hex)
            done += Published(waiting=1)
    return done


def _publish(row: ParkedMessage) -> Published:
    if row.message is None:
        logger.warning(
            "Message %s of key %s was not kept: send it again yourself.",
            row.task_id,
            row.key_hash.hex,
        )
        return Published(not_kept=1)
    if broker is None:
        raise RuntimeError("Nothing here can publish messages: is Celery installed?")
    broker.publish(row.message)
    return Published(published=1)
