"""What a test does to records, and how it tells of them."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import TYPE_CHECKING

from django.core.management import call_command
from django.db import DatabaseError
from django.db.models import DateTimeField, ExpressionWrapper, F

from idempotency.conf import conf
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage
from idempotency.querysets import RecordQuerySet

if TYPE_CHECKING:
    from idempotency.testing.messages import Message


def let_time_pass(duration: timedelta, *, using: str | None = None) -> None:
    """Make every record, event and parked message older: leases run out, what was kept long
    enough is forgotten, a provider's window ends.

    The rows are moved and not the clock, since the database's clock is what decides.

    Args:
        duration: By how much.
        using: Database alias. Default: the setting ``DATABASE``.
    """
    for model in (IdempotencyRecord, IdempotencyEvent, ParkedMessage):
        times = [field.name for field in model._meta.fields if isinstance(field, DateTimeField)]
        earlier = {
            name: ExpressionWrapper(F(name) - duration, output_field=DateTimeField())
            for name in times
        }
        model._default_manager.using(using or conf().DATABASE).update(**earlier)


def records_of(message: Message) -> RecordQuerySet:
    """The record of the key under which a message was delivered; none before it was."""
    hashes = message.key.hashes if message.key else ()
    return IdempotencyRecord.objects.using(message.using).filter(key_hash__in=hashes)


def story_of(message: Message) -> str:
    """What happened to a message, what its record says, and what that means."""
    lines = [f"The story of {message}:"]
    lines += [f"  delivery {number}: {said}" for number, said in enumerate(message.history, 1)]
    try:
        lines += [f"  {line}" for line in _record_lines(message)]
    except DatabaseError as error:
        lines.append(f"  Its record cannot be read in this transaction: {error}")
    return "\n".join(lines)


def _record_lines(message: Message) -> list[str]:
    if message.key is None:
        return ["It has no key yet: it came to no idempotent call."]
    record = records_of(message).first()
    if record is None:
        events = IdempotencyEvent.objects.using(message.using)
        events = events.filter(key_hash__in=message.key.hashes).order_by("id")
        return [
            f"There is no record of key {message.key.hashes[0].hex} of {message.key.scope}.",
            "No attempt has committed one, so nothing of its rows stands either. An attempt that "
            "died inside its transaction leaves nothing; a record that was purged is gone too.",
            *(f"event             {event.kind}  {event.note}" for event in events),
        ]
    shown = StringIO()
    call_command("idempotency_show", record.key_hash.hex, database=message.using, stdout=shown)
    return shown.getvalue().splitlines()
