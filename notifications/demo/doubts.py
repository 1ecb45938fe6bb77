"""The last act: each doubt with its story, the question to the mail server, and the end of it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from idempotency import Verdict
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage
from idempotency.resolution import resolve
from idempotency.states import State
from notifications.demo.mailserver import MailServer
from notifications.demo.screen import Screen
from notifications.mail import build
from notifications.models import Message


@dataclass(frozen=True)
class Doubt:
    """A record in doubt, and the message that waits for it."""

    record: IdempotencyRecord
    message: Message

    @property
    def message_id(self) -> str:
        """The ``Message-ID`` of its mail, in every attempt."""
        return str(build(self.message, self.record.provider_key).extra_headers["Message-ID"])

    def story(self) -> str:
        """What the record and its events tell."""
        events = IdempotencyEvent.objects.filter(key_hash=self.record.key_hash).order_by("id")
        kinds = groupby(event.get_kind_display() for event in events)
        told = [f"{kind} x{n}" if (n := len(list(same))) > 1 else kind for kind, same in kinds]
        record = self.record
        begun, pid = record.effect_begun_at, str(record.owner).rpartition(":")[2]
        ended = (record.error_class or "its lease ran out").rpartition(".")[2]
        return f"process {pid} began to send at {begun:%H:%M:%S}; {', '.join(told)} ({ended})"


def doubts() -> list[Doubt]:
    """All doubts, the oldest first."""
    found = []
    for record in IdempotencyRecord.objects.filter(state=State.IN_DOUBT).order_by("id"):
        parked = ParkedMessage.objects.filter(key_hash=record.key_hash).earliest("id")
        [message_id] = json.loads(str(parked.message))["args"]
        found.append(Doubt(record, Message.objects.get(pk=message_id)))
    return found


def settle(
    found: Iterable[Doubt], mail: MailServer, numbers: Mapping[str, int], screen: Screen
) -> None:
    """Tell the story of each doubt, ask the mail server, and resolve it by the answer."""
    for doubt in found:
        taken = mail.has_taken(doubt.message_id)
        recipient = doubt.message.recipient
        screen.say(f"  #{numbers[recipient]} {recipient}: {doubt.story()}")
        screen.say(
            f"      {doubt.message_id} {'taken' if taken else 'never seen'}: "
            f"it {'happened' if taken else 'did not, send it'}"
        )
        resolve(
            doubt.record.key_hash,
            Verdict.happened(None) if taken else Verdict.did_not_happen(),
            reason=f"The mail server {'has' if taken else 'does not have'} its Message-ID.",
            by="the demo",
        )
