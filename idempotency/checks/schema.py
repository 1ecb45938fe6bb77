"""The tables, as the database has them: the only check that asks it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError, connections
from django.db.migrations.executor import MigrationExecutor

from idempotency.checks.databases import known_aliases
from idempotency.checks.findings import Found, finding, first_line
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage

#: What keeps a database from answering.
BROKEN = (DatabaseError, InterfaceError, ImproperlyConfigured)
MODELS = (IdempotencyRecord, IdempotencyEvent, ParkedMessage)
#: The constraints that promises rest on: by these names their violations are known.
UNIQUE = {
    IdempotencyRecord._meta.db_table: ("idempotency_record_key_hash", ["key_hash"]),
    ParkedMessage._meta.db_table: ("idempotency_parked_message_once", ["key_hash", "task_id"]),
}


def check_schema(databases: Sequence[str] | None = None, **_: Any) -> Found:
    """E006 and E011, of the databases that Django was told to ask."""
    # It asks before it migrates, and would not begin to make what is missing.
    if sys.argv[1:2] == ["migrate"]:
        return []
    found: Found = []
    for alias in set(known_aliases()) & set(databases or ()):
        try:
            found += missing(alias)
        except BROKEN as error:
            found.append(unusable(alias, error))
    return found


def unusable(alias: str, error: Exception) -> checks.CheckMessage:
    """The database does not answer, or not like this."""
    return finding(
        "E011",
        f"The database {alias!r} cannot be used: {first_line(error)}",
        f"Nothing runs without it. Try: manage.py dbshell --database {alias}. A pooler has to "
        "pool by transaction or by session.",
    )


def connect(alias: str) -> None:
    """Connect, if need be.

    Raises:
        DatabaseError: The database does not answer.
        ImproperlyConfigured: Its options cannot be meant.
    """
    try:
        connections[alias].ensure_connection()
    except (TypeError, ValueError) as error:  # of psycopg_pool, for an option or its value
        raise ImproperlyConfigured(f"an option is refused: {first_line(error)}") from error


def missing(alias: str) -> Found:
    """E006: what of our tables is not there.

    Raises:
        DatabaseError: The database cannot be asked.
        ImproperlyConfigured: Its options cannot be meant.
    """
    connection = connections[alias]
    migrate = f"Type: manage.py migrate idempotency --database {alias}."
    connect(alias)
    with connection.cursor() as cursor:
        there = {table.name for table in connection.introspection.get_table_list(cursor)}
        gone = [model._meta.db_table for model in MODELS if model._meta.db_table not in there]
        if gone:
            message = f"The database {alias!r} has no table {', '.join(gone)} that this role sees"
            return [finding("E006", f"{message}: no call will run.", migrate)]
        lost = [
            (table, name, columns)
            for table, (name, columns) in UNIQUE.items()
            if not _is_unique(connection.introspection.get_constraints(cursor, table), name)
        ]
    found = [
        finding(
            "E006",
            f"The table {table} in {alias!r} has no unique constraint {name}: two deliveries can "
            "both have their effect.",
            f"Make it again, after a look at what is there twice: CREATE UNIQUE INDEX {name} ON "
            f"{table} ({', '.join(columns)});",
        )
        for table, name, columns in lost
    ]
    if waiting := _unapplied(alias):
        message = f"Not all migrations of idempotency are applied to {alias!r}: {waiting[0]}"
        found.append(finding("E006", f"{message} is the first that is not.", migrate))
    return found


def _is_unique(constraints: dict[str, Any], name: str) -> bool:
    return bool(constraints.get(name, {}).get("unique"))


def _unapplied(alias: str) -> list[str]:
    try:
        executor = MigrationExecutor(connections[alias])
    except DatabaseError:
        return []  # a worker's role need not be allowed to read what was migrated
    leaves = executor.loader.graph.leaf_nodes("idempotency")
    plan = executor.migration_plan(leaves)
    return [each.name for each, _ in plan if each.app_label == "idempotency"]


# Not by our own tag too: since Django 6.1 that would ask every database, also when a worker starts.
checks.register(check_schema, checks.Tags.database)
