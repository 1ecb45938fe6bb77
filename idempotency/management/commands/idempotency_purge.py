"""``manage.py idempotency_purge``"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from idempotency.maintenance import purge
from idempotency.management.base import DatabaseCommand


class Command(DatabaseCommand):
    help = (
        "Delete settled records that are past their retention, and events past EVENT_RETENTION. "
        "Records that are running, in doubt or exhausted, or that a message waits for, stay."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="Count, and delete nothing.")
        parser.add_argument("--json", action="store_true", help="Print JSON; the lag in seconds.")

    def act(self, options: dict[str, Any]) -> None:
        is_rehearsal = options["dry_run"]
        with self.progress("deleted") as progress:
            purged = purge(using=self.using, dry_run=is_rehearsal, progress=progress)
        if options["json"]:
            self.write_json(purged.as_json() | {"dry_run": is_rehearsal})
            return
        verb = "Would delete" if is_rehearsal else "Deleted"
        self.stdout.write(f"{verb} {purged.records} records and {purged.events} events.")
        if purged.lag is not None:
            self.stdout.write(f"The oldest record was forgotten {purged.lag} ago.")
