"""``manage.py idempotency_allow_again``"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from idempotency.exceptions import IdempotencyError
from idempotency.management.base import KeyCommand
from idempotency.resolution import allow_again


class Command(KeyCommand):
    help = (
        "Reopen a settled record on purpose: the next delivery runs, and has a new provider key. "
        "The messages that wait are published."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--reason", required=True, help="For those who read the events later.")

    def act(self, options: dict[str, Any]) -> None:
        record = self.record(options["key"], options["scope"])
        try:
            published = allow_again(
                record.key_hash, reason=options["reason"], by=self.operator, using=self.using
            )
        except IdempotencyError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Allowed again. {self.published(published)}")
