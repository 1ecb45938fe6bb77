"""``manage.py idempotency_sweep``"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from idempotency.maintenance import sweep
from idempotency.management.base import DatabaseCommand


class Command(DatabaseCommand):
    help = (
        "Make silent ends visible as doubts, ask about doubts, and publish parked messages that "
        "wait for nothing any more."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def act(self, options: dict[str, Any]) -> None:
        swept = sweep(using=self.using)
        if options["json"]:
            self.write_json(asdict(swept))
            return
        self.stdout.write(
            f"{swept.doubts} new doubts, {swept.resolved} resolved by asking. Parked messages: "
            f"{swept.parked.published} published, {swept.parked.waiting} wait for an error to be "
            f"mended (see the log), {swept.parked.not_kept} were not kept and have to be sent "
            "again."
        )
