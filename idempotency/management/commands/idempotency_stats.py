"""``manage.py idempotency_stats``"""

from __future__ import annotations

from argparse import ArgumentTypeError
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from idempotency.backlog import Due, Waiting, due, parked, waiting
from idempotency.management.base import DatabaseCommand, moment
from idempotency.prospects import spoken
from idempotency.statistics import HOUR, Scope, Traffic, traffic

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
        parser.add_argument("--json", action="store_true", help="Print JSON; durations in seconds.")

    def act(self, options: dict[str, Any]) -> None:
        hours = options["hours"]
        states, messages = waiting(self.using), parked(self.using)
        came = traffic(self.using, period=timedelta(hours=hours))
        forgotten = due(self.using)
        if options["json"]:
            self.write_json(
                {
                    "states": [_waiting(name, told) for name, told in states.items()],
                    "parked": [_waiting(name, told) for name, told in messages.items()],
                    "hours": hours,
                    "is_estimate": came.is_estimate,
                    "scopes": [_scope(scope, came) for scope in came.scopes],
                    "purge": asdict(forgotten) | {"lag": _seconds(forgotten.lag)},
                }
            )
            return
        for name, told in states.items():
            if told.oldest is not None:
                more = "+" if told.is_cut else ""
                number = f"{told.number}{more}"
                self.stdout.write(f"{name:9} {number:>8}, the oldest of {moment(told.oldest)}")
        number = str(sum(told.number for told in messages.values()))
        more = "+" if any(told.is_cut for told in messages.values()) else ""
        self.stdout.write(f"parked    {number + more:>8}")
        self.stdout.write(f"to purge  {_due(forgotten)}")
        for scope in came.scopes:
            self.stdout.write(_line(scope, hours, is_estimate=came.is_estimate))


def _hours(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) <= MOST_HOURS:
            return float(text)
    raise ArgumentTypeError(f"give a number above 0 and up to {MOST_HOURS}, not {text!r}.")


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()


def _waiting(name: str, told: Waiting) -> dict[str, Any]:
    return {"name": name} | asdict(told) | {"age": _seconds(told.age)}


def _scope(scope: Scope, came: Traffic) -> dict[str, Any]:
    """With each hour in which something came, by its beginning."""
    return {
        "scope": scope.name,
        "records": scope.records.total(),
        "deliveries": scope.deliveries,
        "duplicates": scope.duplicates.total(),
        "one_in": scope.one_in,
        "redelivered": scope.redelivered,
        "failures": scope.failures,
        "deferrals": scope.deferrals,
        "by_hour": [
            {
                "from": came.begin + hour * HOUR,
                "records": scope.records[hour],
                "duplicates": scope.duplicates[hour],
            }
            for hour in sorted(scope.records.keys() | scope.duplicates.keys())
        ],
    }


def _due(forgotten: Due) -> str:
    about = "about " if forgotten.is_estimate else ""
    number = f"{about}{forgotten.records}"
    if forgotten.lag is None:
        return f"{number:>8} records"
    return f"{number:>8} records, the oldest forgotten for {spoken(forgotten.lag)}"


def _line(scope: Scope, hours: float, *, is_estimate: bool) -> str:
    about = "about " if is_estimate else ""
    said = (
        f"{scope.name or 'all others'}: {about}{scope.deliveries} deliveries in {hours:g} h, "
        f"{scope.duplicates.total()} duplicates"
    )
    if scope.one_in is not None:
        said += f" (1 in {scope.one_in:.1f})"
    return f"{said}, {scope.failures} failures, {scope.deferrals} deferrals"
