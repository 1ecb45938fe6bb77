"""The last act: each doubt that is left with its story, the sweeper's question, and the answer."""

import json
from dataclasses import dataclass
from itertools import groupby

from django.db.models import QuerySet

from idempotency.models import IdempotencyEvent, IdempotencyRecord, Kind, ParkedMessage
from idempotency.states import State
from notifications.mail import message_id
from notifications.models import Channel, Message


@dataclass(frozen=True)
class Doubt:
    """A record in doubt, and the message that waits for it."""

    record: IdempotencyRecord
    message: Message

    def story(self) -> str:
        """What the record and its events tell."""
        kinds = groupby(event.get_kind_display() for event in self._events())
        told = [f"{kind} x{n}" if (n := len(list(same))) > 1 else kind for kind, same in kinds]
        record = self.record
        begun, pid = record.effect_begun_at, str(record.owner).rpartition(":")[2]
        ended = (record.error_class or "its lease ran out").rpartition(".")[2]
        return f"process {pid} began to send at {begun:%H:%M:%S}; {', '.join(told)} ({ended})"

    def question(self) -> str:
        """Whom the sweeper asks, and for what."""
        key = self.record.provider_key
        if self.message.channel == Channel.MAIL:
            return f"the mail server's log is asked for {message_id(key)}"
        return f"its receiver is asked for {key}"

    def answer(self) -> str:
        """What came of it."""
        said = self._events().filter(kind=Kind.RESOLVED).last()
        return said.note if said else "still in doubt"

    def _events(self) -> QuerySet[IdempotencyEvent]:
        return IdempotencyEvent.objects.filter(key_hash=self.record.key_hash).order_by("id")


def doubts() -> list[Doubt]:
    """All doubts that are left, the oldest first."""
    found = []
    for record in IdempotencyRecord.objects.filter(state=State.IN_DOUBT).order_by("id"):
        parked = ParkedMessage.objects.filter(key_hash=record.key_hash).earliest("id")
        [number] = json.loads(str(parked.message))["args"]
        found.append(Doubt(record, Message.objects.get(pk=number)))
    return found


def resolved() -> int:
    """How many doubts have ended."""
    return IdempotencyEvent.objects.filter(kind=Kind.RESOLVED).count()
