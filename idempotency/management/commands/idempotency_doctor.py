"""``manage.py idempotency_doctor``"""

from __future__ import annotations

from typing import Any

from django.core import checks
from django.core.management.base import CommandError, CommandParser
from django.db import connections

from idempotency import doctor
from idempotency.checks.databases import known_aliases
from idempotency.checks.findings import TAG, Found
from idempotency.conf import problems
from idempotency.management.base import DatabaseCommand

LEVELS = {checks.INFO: "info", checks.WARNING: "warning", checks.ERROR: "error"}
#: Seconds for the broker to answer.
PATIENCE = 10.0


class Command(DatabaseCommand):
    help = (
        "Run all checks, those for deployment too, and ask the database what only it can tell. "
        "Status 1 when something needs attention."
    )
    requires_system_checks = []  # they are what it reports

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--broker", action="store_true", help="Ask the broker as well.")
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        found = [each for each in self._found(options) if not each.is_silenced()]
        found.sort(key=lambda each: (-each.level, str(each.id)))
        if options["json"]:
            self.write_json({"findings": [_as_dict(each) for each in found]})
        else:
            for each in found:
                self.stdout.write(f"{LEVELS[each.level]:7} {each.id}: {each.msg} {each.hint}")
        wrong = sum(each.level > checks.INFO for each in found)
        if wrong:
            raise CommandError(f"{wrong} of these need attention.")
        if not options["json"]:
            self.stdout.write("Nothing is wrong.")

    def _found(self, options: dict[str, Any]) -> Found:
        found = checks.run_checks(tags=[TAG], include_deployment_checks=True)
        for using in self._asked(options["database"]):
            # What the settings say, the server may say once more.
            found += [each for each in doctor.examine_database(using) if each not in found]
        if options["broker"]:
            if not doctor.brokers:
                raise CommandError("There is no broker to ask: Celery is not installed.")
            for examine in doctor.brokers:
                found += examine(PATIENCE)
        return found

    def _asked(self, given: str | None) -> list[str]:
        if given is None or problems():
            return known_aliases()
        if given not in connections:
            known = ", ".join(connections)
            raise CommandError(f"There is no database alias {given!r}. Known are: {known}.")
        return [given]


def _as_dict(found: checks.CheckMessage) -> dict[str, Any]:
    return {
        "id": found.id,
        "level": LEVELS[found.level],
        "message": found.msg,
        "hint": found.hint,
    }
