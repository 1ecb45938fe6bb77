"""A table of successes, of any size, and what it takes of the disk."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

from django.db import connection

from tests.benchmarks.counting import ask
from tests.benchmarks.fill import STEP, without_indexes
from tests.benchmarks.rounds import Say
from tests.benchmarks.subjects import RESULT, SCOPE

#: So many rows are inserted under their indexes, as a table grows; more are too slow for that.
GROWN = 2_000_000

# As a transactional success is written: a task id, a fingerprint and a result of 31 bytes. The age
# goes with the number; a tenth is older than 30 days, and forgotten.
SUCCESSES = """
INSERT INTO idempotency_record
       (key_hash, scope, fingerprint, task_id, state, attempt, generation, result,
        created_at, settled_at, expires_at)
SELECT md5(n::text)::uuid, %(scope)s, md5('f')::uuid, md5('task' || n)::uuid::text, 'succeeded', 1,
       1, %(result)s, at, at, at + interval '30 days'
  FROM (SELECT n, now() - interval '1 day' * %(days)s * (%(rows)s - n) / %(rows)s AS at
          FROM generate_series(%(first)s::bigint, %(last)s::bigint) n) aged
"""


@dataclass(frozen=True)
class Space:
    """Bytes, and pages of 8 KiB.

    Attributes:
        leaves: Pages of the index over keys.
    """

    table: int
    indexes: int
    leaves: int


def fill(rows: int, say: Say, *, days: int = 33) -> Space:
    """Empty the tables, and make so many records, of so many days: of 33 a tenth is forgotten."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE idempotency_record, idempotency_event, jobs_effect")
        values = {"rows": rows, "days": days, "scope": SCOPE, "result": str(RESULT)}
        with nullcontext() if rows <= GROWN else without_indexes():
            for first in range(1, rows + 1, STEP):
                last = min(first + STEP - 1, rows)
                cursor.execute(SUCCESSES, values | {"first": first, "last": last})
                say(f"growth: {last:,} of {rows:,} records")
        cursor.execute("VACUUM ANALYZE idempotency_record")
    table, indexes, key_index = ask(
        "SELECT pg_table_size('idempotency_record'), pg_indexes_size('idempotency_record'),"
        " pg_relation_size('idempotency_record_key_hash')"
    )
    return Space(table, indexes, key_index // 8192)
