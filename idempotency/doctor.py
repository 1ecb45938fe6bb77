"""What only a server can tell: asked by ``manage.py idempotency_doctor``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from django.core.checks import CheckMessage
from django.db import connections
from django.db.models import Count, Min, Q

from idempotency.checks.databases import ONE_SNAPSHOT, aliases, isolation, without_storage
from idempotency.checks.findings import Found, finding, first_line
from idempotency.checks.schema import BROKEN, connect, missing, unusable
from idempotency.maintenance import purge
from idempotency.models import IdempotencyRecord
from idempotency.states import State
from idempotency.storage import VENDORS, server

#: Set by ``contrib``: asks the broker, for so many seconds at most.
brokers: list[Callable[[float], Found]] = []

#: Forgotten for longer, records are deleted by nobody; a purge each week has less.
LAG = timedelta(days=8)


def examine_database(using: str) -> Found:
    """Ask the database behind an alias. What keeps it from answering is found, not raised."""
    if connections[using].vendor not in VENDORS:
        return [without_storage(using, aliases().get(using, "--database"))]
    found: Found = []
    try:
        for question in (_server, missing, _rights, _locks, _records):
            found += question(using)
            if any(each.id in ("idempotency.E006", "idempotency.E013") for each in found):
                break  # what follows needs the tables
    except BROKEN as error:
        found.append(unusable(using, error))
    return found


def _is_postgresql(using: str) -> bool:
    return bool(connections[using].vendor == "postgresql")


def _server(using: str) -> Found:
    connect(using)
    if not _is_postgresql(using):
        return []
    said = server.ask(using)
    return [*_of_the_way(using, said), *_of_server(using, said)]


def _of_server(using: str, said: server.Server) -> Iterator[CheckMessage]:
    if said.is_read_only:
        why = "follows another server (a standby)" if said.is_standby else "only lets read"
        yield finding(
            "E012",
            f"The database {using!r} {why}: no record can be written, and no call will run.",
            "Name the primary: target_session_attrs=read-write in the OPTIONS of the database "
            "finds it among several hosts. Else look at default_transaction_read_only.",
        )
    if said.isolation in ONE_SNAPSHOT.values():
        yield isolation(using, said.isolation)
    if said.synchronous_commit in ("off", "local"):
        yield finding(
            "W025",
            f"synchronous_commit is {said.synchronous_commit} on {using!r}: the transaction of a "
            "job whose message is acknowledged can be lost with the server. Effect and record go "
            "together, and nothing repeats them. (Claims of leased jobs are flushed all the same.)",
            "ALTER ROLE ... SET synchronous_commit = on, for the role of the workers.",
        )
    if said.is_ahead:
        yield finding(
            "I005",
            f"Standbys follow {using!r}, and no COMMIT waits for them: after a failover to one, "
            "the last jobs are gone with their records, and the last claims are forgotten.",
            "Name those that may take over in synchronous_standby_names.",
        )
    if said.idle_limit != "0":
        yield finding(
            "I002",
            f"idle_in_transaction_session_timeout is {said.idle_limit} on {using!r}: the "
            "transaction of a job that sends no statement for so long is lost, and the job is "
            "delivered again.",
            "Raise it for the role of the workers where transactional jobs compute for longer.",
        )


def _of_the_way(using: str, said: server.Server) -> Iterator[CheckMessage]:
    """What it is, and what stands before it."""
    through = ", through a pooler" if said.is_pooled else ""
    yield finding("I004", f"The database {using!r} is PostgreSQL {said.version}{through}.", "")
    options = connections[using].settings_dict["OPTIONS"]
    if said.is_pooled and options.get("prepare_threshold") is not None:
        yield finding(
            "W028",
            f"Between us and {using!r} is a pooler, and prepare_threshold is set: one that pools "
            "by transaction, and keeps no account of them, gives a connection away together with "
            "its prepared statements.",
            "Leave prepare_threshold out of the OPTIONS of the database, or silence this where "
            "the pooler knows prepared statements (PgBouncer 1.21: max_prepared_statements).",
        )


def _rights(using: str) -> Found:
    lacking = server.missing_rights(using) if _is_postgresql(using) else []
    if not lacking:
        return []
    return [
        finding(
            "E013",
            f"The role of {using!r} lacks {', '.join(lacking)}.",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_record, idempotency_event, "
            "idempotency_parked_message TO the role.",
        )
    ]


def _locks(using: str) -> Found:
    if not _is_postgresql(using):
        return []
    try:
        if server.locks_exclude(using):
            return []
    except server.NoSecondConnectionError as error:
        return [
            finding(
                "W026",
                f"There is no second connection to {using!r} ({first_line(error)}): the lease of a "
                "leased job is renewed over one, and runs out without.",
                "Allow each process two connections for each thread that runs jobs: the CONNECTION "
                "LIMIT of the role, max_connections, the size of a pool.",
            )
        ]
    return [
        finding(
            "W027",
            f"Advisory locks do not exclude on {using!r}: duplicates run their bodies side by "
            "side, and all but one are rolled back. After a lost reply to COMMIT nobody can tell.",
            "Use PostgreSQL itself, and a pooler that sends a transaction to one server.",
        )
    ]


def _records(using: str) -> Found:
    return [*_lag(using), *_attention(using)]


def _lag(using: str) -> Found:
    due = purge(using=using, dry_run=True)
    if due.lag is None or due.lag < LAG:
        return []
    return [
        finding(
            "W029",
            f"{due.records} records in {using!r} are forgotten, the oldest for {due.lag.days} "
            "days: nobody deletes them.",
            f"Type: manage.py idempotency_purge --database {using}, and let it run each day.",
        )
    ]


def _attention(using: str) -> Found:
    records = IdempotencyRecord.objects.using(using).order_by()
    waiting = records.filter(Q(state=State.IN_DOUBT) | Q(exhausted_at__isnull=False))
    waits = waiting.aggregate(number=Count("id"), oldest=Min("created_at"))
    unseen = records.doubtful().aggregate(number=Count("id"), oldest=Min("created_at"))
    found: Found = []
    if waits["number"]:
        found.append(
            finding(
                "W030",
                f"{waits['number']} records in {using!r} are in doubt or exhausted, the oldest of "
                f"{waits['oldest']:%Y-%m-%d %H:%M}: nothing runs until somebody decides.",
                "Look at them in the admin, or type: manage.py idempotency_stats.",
            )
        )
    if unseen["number"]:
        found.append(
            finding(
                "W031",
                f"{unseen['number']} jobs in {using!r} ended in the middle of their effect, the "
                f"oldest of {unseen['oldest']:%Y-%m-%d %H:%M}, and nobody has been told.",
                f"Type: manage.py idempotency_sweep --database {using}, and let it run each "
                "minute.",
            )
        )
    return found
