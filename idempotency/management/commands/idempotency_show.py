"""``manage.py idempotency_show``"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser

from idempotency.management.base import KeyCommand, moment
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage, Reason
from idempotency.prospects import Act, what_next
from idempotency.redaction import redact

EVENT_COLUMNS = ("at", "kind", "attempt", "duration", "worker", "task_id", "redelivered", "note")

COMMANDS = {Act.RESOLVE: "idempotency_resolve", Act.ALLOW_AGAIN: "idempotency_allow_again"}

#: What a terminal shows of a text, and of the events; ``--json`` shows all.
LENGTH, EVENTS = 200, 20


class Command(KeyCommand):
    help = "Show the record of a key, what happened to it, what waits, and what comes next."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--json", action="store_true", help="Print JSON, with nothing cut.")

    def act(self, options: dict[str, Any]) -> None:
        record = redact(self.record(options["key"], options["scope"]))
        about = {"key_hash": record.key_hash}
        events = IdempotencyEvent.objects.using(self.using).filter(**about).order_by("id")
        parked = ParkedMessage.objects.using(self.using).filter(**about).order_by("id")
        if options["json"]:
            self.write_json(
                {
                    "record": _columns(record),
                    "events": [
                        {column: getattr(event, column) for column in EVENT_COLUMNS}
                        for event in map(redact, events)
                    ],
                    "parked": [
                        {
                            "created_at": message.created_at,
                            "task_id": message.task_id,
                            "reason": message.reason,
                            "is_kept": message.message is not None,
                        }
                        for message in parked
                    ],
                    "next": _next(record),
                }
            )
            return
        for name, value in _columns(record).items():
            if value is not None:
                self._line(name, value)
        earlier = events.count() - EVENTS
        if earlier > 0:
            self._line("event", f"({earlier} earlier ones: --json)")
        for event in reversed(events.reverse()[:EVENTS]):
            self._line("event", "  ".join(_told(redact(event))))
        for message in parked:
            kept = "" if message.message is not None else ", not kept: send it again yourself"
            waits = f"message {message.task_id}  {Reason(message.reason).label}{kept}"
            self._line("parked", f"{moment(message.created_at, self.using)}  {waits}")
        self._line("next", _next(record))

    def _line(self, name: str, value: object) -> None:
        text = moment(value, self.using) if isinstance(value, datetime) else str(value)
        if len(text) > LENGTH:
            text = f"{text[:LENGTH]}… ({len(text):,} characters)"
        # The text of an error may come from anywhere: a terminal obeys control characters.
        shown = "".join(
            letter if letter.isprintable() else letter.encode("unicode_escape").decode()
            for letter in text
        )
        self.stdout.write(f"{name:17} {shown}")


def _columns(record: IdempotencyRecord) -> dict[str, Any]:
    columns = {field.name: getattr(record, field.name) for field in record._meta.concrete_fields}
    return columns | {"key_hash": record.key_hash.hex, "provider_key": str(record.provider_key)}


def _told(event: IdempotencyEvent) -> list[str]:
    """An event in words, without what it does not say."""
    said = [
        moment(event.at, event._state.db),
        f"{event.kind:13}",
        f"attempt {event.attempt}" if event.attempt is not None else "",
        f"ran {event.duration.total_seconds():.3f} s" if event.duration is not None else "",
        f"on {event.worker}" if event.worker else "",
        f"message {event.task_id}" if event.task_id else "",
        "redelivered" if event.redelivered else "",
        event.note,
    ]
    return [each for each in said if each]


def _next(record: IdempotencyRecord) -> str:
    prospect = what_next(record, record.seen_at)
    if prospect.waits_for is None:
        return prospect.sentence
    command = f"{COMMANDS[prospect.waits_for]} {record.key_hash.hex}"
    return f"{prospect.sentence.removesuffix('.')}: {command}"
