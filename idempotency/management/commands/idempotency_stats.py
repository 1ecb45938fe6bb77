"""``manage.py idempotency_stats``"""

from __future__ import annotations

from argparse import ArgumentTypeError
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Count, Min

from idempotency.maintenance import purge
from idempotency.management.base import DatabaseCommand, moment
from idempotency.models import IdempotencyRecord, ParkedMessage
from idempotency.states import State
from idempotency.statistics import redelivery_rates

#: A hundred years.
MOST_HOURS = 876_000


class Command(DatabaseCommand):
    help = "Count what needs attention, what was delivered, and what waits to be purged."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--hours",
            type=_hours,
            default=24.0,
            help="Count deliveries of so many hours until now.",
        )
        parser.add_argument("--json", action="store_true", help="Print JSON; the lag in seconds.")

    def act(self, options: dict[str, Any]) -> None:
        hours = options["hours"]
        unsettled = list(
            IdempotencyRecord.objects.using(self.using)
            .exclude(state=State.SUCCEEDED)
            .order_by("state")
            .values("state")
            .annotate(number=Count("id"), oldest=Min("created_at"))
        )
        parked = ParkedMessage.objects.using(self.using).count()
        rates = redelivery_rates(since=timedelta(hours=hours), using=self.using)
        due = purge(using=self.using, dry_run=True)
        if options["json"]:
            self.write_json(
                {
                    "states": unsettled,
                    "parked": parked,
                    "hours": hours,
                    "scopes": [asdict(rate) for rate in rates],
                    "purge": due.as_json(),
                }
            )
            return
        for row in unsettled:
            self.stdout.write(
                f"{row['state']:9} {row['number']:8}, the oldest of {moment(row['oldest'])}"
            )
        self.stdout.write(f"parked    {parked:8}")
        self.stdout.write(f"to purge  {due.records:8} records, {due.events} events")
        for rate in rates:
            bound = "at least " if rate.is_lower_bound else ""
            self.stdout.write(
                f"{rate.scope}: {rate.deliveries} deliveries in {hours:g} h, "
                f"{bound}{rate.duplicates} duplicates"
            )


def _hours(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) <= MOST_HOURS:
            return float(text)
    raise ArgumentTypeError(f"give a number above 0 and up to {MOST_HOURS}, not {text!r}.")
