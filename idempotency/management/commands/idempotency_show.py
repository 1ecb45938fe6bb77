"""``manage.py idempotency_show``"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.forms.models import model_to_dict

from idempotency.management.base import KeyCommand
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage
from idempotency.states import State

EVENT_COLUMNS = ("at", "kind", "attempt", "duration", "worker", "task_id", "redelivered", "note")


class Command(KeyCommand):
    help = "Show the record of a key, what happened to it, what waits, and what comes next."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def act(self, options: dict[str, Any]) -> None:
        record = self.record(options["key"], options["scope"])
        about = {"key_hash": record.key_hash}
        events = list(
            IdempotencyEvent.objects.using(self.using)
            .filter(**about)
            .order_by("id")
            .values(*EVENT_COLUMNS)
        )
        parked = list(
            ParkedMessage.objects.using(self.using)
            .filter(**about)
            .order_by("id")
            .values("created_at", "task_id", "reason")
        )
        columns = {
            name: value
            for name, value in _columns(record).items()
            if value is not None or options["json"]
        }
        if options["json"]:
            self.write_json(
                {"record": columns, "events": events, "parked": parked, "next": _next(record)}
            )
            return
        for name, value in columns.items():
            self.stdout.write(f"{name:17} {value}")
        for event in events:
            said = [str(event[name]) for name in EVENT_COLUMNS if event[name]]
            self.stdout.write("event             " + "  ".join(said))
        for message in parked:
            self.stdout.write(
                f"parked            {message['created_at']}  {message['task_id']}  "
                f"{message['reason']}"
            )
        self.stdout.write(f"next              {_next(record)}")


def _columns(record: IdempotencyRecord) -> dict[str, Any]:
    columns = model_to_dict(record) | {"created_at": record.created_at}
    return columns | {"key_hash": record.key_hash.hex, "provider_key": str(record.provider_key)}


def _next(record: IdempotencyRecord) -> str:
    records = IdempotencyRecord.objects.using(record._state.db).filter(pk=record.pk)
    if record.state == State.IN_DOUBT:
        return "It waits until somebody says what happened: idempotency_resolve."
    if record.exhausted_at:
        return "No delivery runs it. Find out what kills it, then: idempotency_allow_again."
    if records.leased().exists():
        return "It is running, and is busy to every other delivery until its lease runs out."
    if records.doubtful().exists():
        return "The next delivery, or idempotency_sweep, finds a doubt: its effect had begun."
    if record.state == State.SUCCEEDED and not records.purgeable().exists():
        return "A duplicate is answered with the result; the body does not run."
    return "The next delivery runs."
