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
        parser.add_argument("--dry-run", action="store_true", help="Count, and do nothing.")
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def act(self, options: dict[str, Any]) -> None:
        is_rehearsal = options["dry_run"]
        with self.progress("seen to") as progress:
            swept = sweep(using=self.using, dry_run=is_rehearsal, progress=progress)
        if options["json"]:
            self.write_json(asdict(swept) | {"dry_run": is_rehearsal})
            return
        parked = swept.parked
        if is_rehearsal:
            self.stdout.write(
                f"Would find {swept.doubts} new doubts, ask about {swept.asked}, and publish "
                f"{parked.published} parked messages; {parked.not_kept} were not kept and have to "
                "be sent again."
            )
            return
        self.stdout.write(
            f"{swept.doubts} new doubts, {swept.asked} asked about, {swept.resolved} resolved by "
            f"it. Parked messages: {parked.published} published, {parked.waiting} wait for an "
            f"error to be mended (see the log), {parked.not_kept} were not kept and have to be "
            "sent again."
        )
