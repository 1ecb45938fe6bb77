"""What in the project's configuration breaks a promise: ``manage.py check``.

Nothing here reaches for a database or a broker. The ids are stable, and never used again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.core import checks
from django.db import connections

from idempotency import jobs
from idempotency.conf import conf, problems
from idempotency.storage import VENDORS

#: ``manage.py check --tag idempotency``
TAG = "idempotency"

Found = list[checks.CheckMessage]


def register(check: Callable[[], Found]) -> None:
    """Let ``manage.py check`` call it, whatever applications it is asked about."""

    def run(app_configs: Sequence[Any] | None, **_: Any) -> Found:
        return check()

    run.__name__ = check.__name__
    checks.register(run, TAG)


def check_settings() -> Found:
    """E001 to E003: not a dict, an unknown option, a value that cannot be meant."""
    return [
        checks.Error(problem.message, hint=problem.hint, id=f"idempotency.E{problem.number:03}")
        for problem in problems()
    ]


def check_database() -> Found:
    """E004, E005, W012: the alias that the records live behind."""
    if problems():
        return []
    using = conf().DATABASE
    if using not in connections:
        return [
            checks.Error(
                f"IDEMPOTENCY['DATABASE'] names {using!r}, which is no database alias.",
                hint=f"Known are: {', '.join(connections)}.",
                id="idempotency.E004",
            )
        ]
    vendor = connections[using].vendor
    if vendor not in VENDORS:
        return [
            checks.Error(
                f"The database {using!r} is {vendor}: no call of an @idempotent function will run.",
                hint="Name a PostgreSQL database in IDEMPOTENCY['DATABASE'].",
                id="idempotency.E005",
            )
        ]
    return _sqlite(using) if vendor == "sqlite" else []


def _sqlite(using: str) -> Found:
    message = (
        f"The database {using!r} is SQLite: one job writes at a time, whatever its key. One that "
        "waits for longer than the connection's timeout is deferred as if its transaction was lost."
    )
    hint = "Good for development. Use PostgreSQL where jobs run side by side."
    options = connections[using].settings_dict["OPTIONS"]
    if str(options.get("transaction_mode")).upper() != "IMMEDIATE":
        message += (
            " Its transactions do not begin as writers, so that one which has read is refused when "
            "somebody else has written meanwhile."
        )
        hint = 'Add "transaction_mode": "IMMEDIATE" to the OPTIONS of the database. ' + hint
    return [checks.Warning(message, hint=hint, id="idempotency.W012")]


def check_scopes() -> Found:
    """E007: two functions with one scope."""
    jobs.all_jobs()
    return [
        checks.Error(
            f"{first} and {second} both have the scope {scope!r}: a key that one has used answers "
            "the other with a result that is not its own.",
            hint="Give each a scope= of its own.",
            id="idempotency.E007",
        )
        for scope, first, second in sorted(jobs.clashes)
    ]


for each in (check_settings, check_database, check_scopes):
    register(each)
