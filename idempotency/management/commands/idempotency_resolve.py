"""``manage.py idempotency_resolve``"""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from idempotency.management.base import ChangingCommand
from idempotency.models import IdempotencyRecord
from idempotency.parking import Published
from idempotency.policies import Verdict
from idempotency.resolution import resolve


class Command(ChangingCommand):
    help = "End a doubt: say whether the effect happened. The messages that wait are published."
    done = "Resolved."
    would = "Would resolve it."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verdict = parser.add_mutually_exclusive_group(required=True)
        verdict.add_argument("--happened", action="store_true", help="It is not run again.")
        verdict.add_argument("--did-not-happen", action="store_true", help="The next one runs.")
        parser.add_argument("--result", help="With --happened: what duplicates get, as JSON.")

    def change(self, record: IdempotencyRecord, options: dict[str, Any]) -> Published:
        return resolve(
            record.key_hash,
            _verdict(options),
            reason=options["reason"],
            by=self.operator,
            using=self.using,
            claim_id=self.claim_of(record),
            dry_run=options["dry_run"],
        )


def _verdict(options: dict[str, Any]) -> Verdict:
    given = options["result"]
    if options["did_not_happen"]:
        if given is not None:
            raise CommandError("What did not happen has no --result. Nothing was changed.")
        return Verdict.did_not_happen()
    try:
        return Verdict.happened(None if given is None else json.loads(given))
    except (ValueError, RecursionError) as error:
        raise CommandError(f"--result is no JSON: {error}. Nothing was changed.") from error
