"""``manage.py idempotency_release``"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from idempotency.management.base import ChangingCommand
from idempotency.models import IdempotencyRecord
from idempotency.parking import Published
from idempotency.resolution import release
from idempotency.states import State


class Command(ChangingCommand):
    help = (
        "Take its claim away from an attempt that is dead: should it live, it can settle nothing. "
        "The next delivery runs, or the record is in doubt if the effect had begun."
    )
    done = "Released: the next delivery runs."
    would = "Would release it: the next delivery would run."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--force",
            action="store_true",
            help="Also under a live lease: the old process may still act outside.",
        )

    def change(self, record: IdempotencyRecord, options: dict[str, Any]) -> Published:
        released = release(
            record.key_hash,
            reason=options["reason"],
            by=self.operator,
            using=self.using,
            claim_id=self.claim_of(record),
            force=options["force"],
            dry_run=options["dry_run"],
        )
        if released.state == State.IN_DOUBT:
            self.done = "Released: it is in doubt now, and waits to be resolved."
            self.would = "Would release it: it would be in doubt, and wait to be resolved."
        return released
