"""``manage.py idempotency_allow_again``"""

from __future__ import annotations

from typing import Any

from idempotency.management.base import ChangingCommand
from idempotency.models import IdempotencyRecord
from idempotency.parking import Published
from idempotency.resolution import allow_again


class Command(ChangingCommand):
    help = (
        "Reopen a settled record on purpose: the next delivery runs, and has a new provider key. "
        "The messages that wait are published."
    )
    done = "Allowed again."
    would = "Would allow it again."

    def change(self, record: IdempotencyRecord, options: dict[str, Any]) -> Published:
        return allow_again(
            record.key_hash,
            reason=options["reason"],
            by=self.operator,
            using=self.using,
            dry_run=options["dry_run"],
        )
