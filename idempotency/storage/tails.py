"""The newest rows of a table, counted by hour: found by the primary key, for no time has an index.

Ids are given in the order of time, so that the rows of a period are the end of the primary key.
Where that begins is found by halving, in one statement of 63 steps, each a look at a few rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import connections

#: A row's time is the beginning of its transaction, and its id is given later: by so much, at most.
LONGEST = timedelta(hours=1)
#: Rows of a transaction that was longer hide no others, if fewer than so many lie side by side.
ASKED = 10
#: So many stretches of so many ids are read, at most. With more rows than that in the period they
#: stand apart evenly, and each row counts for several.
STRETCHES = 1_000
STRETCH = 50


@dataclass(frozen=True, slots=True)
class Source:
    """A table of which rows are counted, and the expressions for what they are counted by."""

    table: str
    at: str
    kind: str
    redelivered: str


RECORDS = Source("idempotency_record", "created_at", "state", "false")
EVENTS = Source("idempotency_event", "at", "kind", "redelivered")


@dataclass(frozen=True, slots=True)
class Row:
    """How many rows came in one hour.

    Attributes:
        hour: From 0, the oldest of the period.
        kind: The state of a record, the kind of an event.
    """

    hour: int
    scope: str
    kind: str
    redelivered: bool
    number: int


@dataclass(frozen=True, slots=True)
class Tail:
    """What came in a period.

    Attributes:
        until: The end of the period, in UTC.
        weight: For how many rows each row stands that was read; 1: all were.
    """

    until: datetime
    rows: list[Row]
    weight: int


# If the rows at a place are old, then so are all before it, and the search goes on behind it. Of an
# empty place those before it are asked. (Binary lifting: steps of 2^62, 2^61, ... 1.) One row alone
# may be of a transaction that was longer than LONGEST, with young ones on both of its sides.
BEGIN = """
WITH RECURSIVE search (low, step) AS (
    SELECT {zero}, 4611686018427387904
    UNION ALL
    SELECT low + CASE WHEN (SELECT max(at) FROM (SELECT {at} AS at FROM {table}
                                                  WHERE id <= low + step
                                                  ORDER BY id DESC LIMIT %(asked)s) AS asked)
                           < {begin} THEN step ELSE 0 END, step / 2
      FROM search WHERE step > 0)
SELECT max(low), (SELECT min(id) FROM {table}), (SELECT max(id) FROM {table}), {epoch}
  FROM search
"""

COUNT = """
WITH counted AS (
    SELECT {hour} AS hour, scope, {kind} AS kind, {redelivered} AS redelivered, count(*) AS number
      FROM {rows}
     WHERE {at} >= {begin}
     GROUP BY 1, 2, 3, 4)
SELECT {number}, scope, kind, redelivered, number FROM counted
"""

#: LIMIT changes no row: the planner cannot know how few a stretch has, and would compile the query.
STRETCHED = """
generate_series(%(low)s::bigint, %(high)s::bigint - 1, %(step)s::bigint) AS stretch (low),
LATERAL (SELECT * FROM {table} WHERE id > stretch.low AND id <= stretch.low + %(stretch)s::bigint
          ORDER BY id LIMIT %(stretch)s) AS stretched
"""

DIALECTS = {
    "postgresql": {
        "zero": "0::bigint",
        "epoch": "extract(epoch FROM statement_timestamp())",
        "begin": "statement_timestamp() - make_interval(secs => %(seconds)s)",
        "hour": "date_bin('1 hour', {at}, {begin})",
        "number": "(extract(epoch FROM hour - ({begin})) / 3600)::int",
        "rows": STRETCHED,
    },
    "sqlite": {  # for development: it reads all of the period
        "zero": "0",
        "epoch": "(julianday('now') - 2440587.5) * 86400",
        "begin": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', julianday('now') - %(seconds)s / 86400.0)",
        "hour": "CAST((julianday({at}) - julianday({begin})) * 24 AS int)",
        "number": "hour",
        "rows": "(SELECT * FROM {table} WHERE id > %(low)s) AS newest",
    },
}


def tail(using: str, source: Source, period: timedelta) -> Tail:
    """The rows of the last ``period``, by the clock of the database; two statements.

    What began in the period and was told more than ``LONGEST`` later may be missing at its edge. If
    ``ASKED`` rows or more of one such transaction are the last of all, all is missing until the
    next row.
    """
    vendor = connections[using].vendor
    seconds = period.total_seconds()
    with connections[using].cursor() as cursor:
        since = seconds + LONGEST.total_seconds()
        cursor.execute(_sql(BEGIN, vendor, source), {"seconds": since, "asked": ASKED})
        low, first, last, epoch = cursor.fetchone()
        low, high = max(low, (first or 1) - 1), last or 0
        ids = max(high - low, 0)
        is_sampled = vendor == "postgresql"
        weight = max(-(-ids // (STRETCHES * STRETCH)), 1) if is_sampled else 1
        parameters = {
            "seconds": seconds,
            "low": low,
            "high": high,
            "stretch": STRETCH,
            "step": STRETCH * weight,
        }
        cursor.execute(_sql(COUNT, vendor, source), parameters)
        rows = [
            Row(hour, scope, kind, bool(redelivered), number * weight)
            for hour, scope, kind, redelivered, number in cursor.fetchall()
        ]
    return Tail(datetime.fromtimestamp(float(epoch), UTC), rows, weight)


def _sql(template: str, vendor: str, source: Source) -> str:
    """Names of ours only: nothing that anybody types gets into it."""
    dialect = DIALECTS[vendor]
    names = {
        "table": source.table,
        "at": source.at,
        "kind": source.kind,
        "redelivered": source.redelivered,
        "begin": dialect["begin"],
        "zero": dialect["zero"],
        "epoch": dialect["epoch"],
    }
    parts = {part: dialect[part].format(**names) for part in ("hour", "number", "rows")}
    return template.format(**names, **parts)
