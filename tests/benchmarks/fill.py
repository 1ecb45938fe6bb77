"""A table as it is after a month: nearly all has succeeded, and something of everything else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
from django.db.models import Model, UniqueConstraint

from idempotency.digests import digest
from idempotency.models import IdempotencyEvent, IdempotencyRecord

#: A key that somebody types, and a scope that no row has.
KEY, SCOPE, NO_SCOPE = "order-7", "shop.job_3", "shop.never"
#: Rows of one INSERT: often enough to see how far it is.
STEP = 500_000

# Of 10,000 rows 500 have failed, 5 run (of which every other lease has run out), 2 are in doubt,
# and 1 in 20,000 is exhausted. A third of what has succeeded was leased. The age goes with the id,
# as it does by itself; what is older than 30 days is forgotten, which is a tenth.
RECORDS = """
INSERT INTO idempotency_record
       (key_hash, scope, state, attempt, generation, claim_id, policy, owner, task_id, result,
        error_class, error_message, created_at, claimed_at, effect_begun_at, lease_expires_at,
        settled_at, expires_at, exhausted_at, deaths)
SELECT md5(n::text)::uuid, 'shop.job_' || n %% 8, state, 1 + (n %% 50 = 7)::int, 1,
       CASE WHEN leased THEN gen_random_uuid() END, CASE WHEN leased THEN 'hold' END,
       CASE WHEN leased THEN 'worker-' || n %% 9 || ':4711' END, md5('task' || n)::uuid::text,
       CASE WHEN state = 'succeeded' THEN '{"order": ' || n || ', "sent": true}' END,
       CASE WHEN state = 'failed' THEN 'builtins.ConnectionRefusedError' END,
       CASE WHEN state = 'failed' THEN 'Connection refused' END,
       at, CASE WHEN leased THEN at END, CASE WHEN leased AND state <> 'failed' THEN at END,
       CASE WHEN state = 'running'
            THEN now() + interval '1 hour' * CASE WHEN n %% 4000 = 1 THEN 1 ELSE -1 END END,
       CASE WHEN state IN ('succeeded', 'failed') THEN at END, at + interval '30 days',
       CASE WHEN n %% 20000 = 7 THEN at END, CASE WHEN n %% 20000 = 7 THEN 5 END
  FROM (SELECT n, now() - interval '33 days' * (%(rows)s - n) / %(rows)s AS at, state,
               state IN ('running', 'in_doubt') OR n %% 3 = 0 AS leased
          FROM (SELECT n, CASE WHEN n %% 2000 = 1 THEN 'running' WHEN n %% 5000 = 2 THEN 'in_doubt'
                               WHEN n %% 20 = 7 THEN 'failed' ELSE 'succeeded' END AS state
                  FROM generate_series(%(first)s::bigint, %(last)s::bigint) n) stated) made
"""
# A tenth of the records has one.
EVENTS = """
INSERT INTO idempotency_event
       (at, kind, key_hash, scope, task_id, worker, attempt, redelivered, note)
SELECT now() - interval '33 days' * (%(rows)s - n) / %(rows)s,
       (ARRAY['duplicate', 'duplicate', 'failed', 'deferred', 'taken_over'])[1 + n / 10 %% 5],
       md5(n::text)::uuid, 'shop.job_' || n %% 8, md5('task' || n)::uuid::text,
       'worker-' || n %% 9 || ':4711', 1, n %% 3 = 0, ''
  FROM generate_series(%(first)s::bigint, %(last)s::bigint, 10) n
"""
MESSAGES = """
INSERT INTO idempotency_parked_message (key_hash, task_id, reason, message, created_at)
SELECT key_hash, task_id, CASE WHEN state = 'in_doubt' THEN 'in_doubt' ELSE 'gave_up' END,
       '{"task": "shop.ship", "args": [7]}', created_at
  FROM idempotency_record
 WHERE state = 'in_doubt' OR state = 'failed' AND id %% 4000 = 7
"""
ONE_KEY = "UPDATE idempotency_record SET key_hash = %s, scope = %s WHERE id = %s"


def fill(rows: int, say: Callable[[str], None]) -> None:
    """Make so many records, a tenth as many events, and the messages that wait."""
    with connection.cursor() as cursor, without_indexes():
        for first in range(1, rows + 1, STEP):
            bounds = {"rows": rows, "first": first, "last": min(first + STEP - 1, rows)}
            cursor.execute(RECORDS, bounds)
            cursor.execute(EVENTS, bounds)
            say(f"{bounds['last']:,} of {rows:,} records")
        cursor.execute(MESSAGES, [])
        [named] = digest(KEY, scope=SCOPE, secrets=()).hashes
        cursor.execute(ONE_KEY, [named, SCOPE, rows // 2 + 3])
        say("the indexes")
    with connection.cursor() as cursor:
        say("VACUUM ANALYZE")
        cursor.execute("VACUUM ANALYZE")


@contextmanager
def without_indexes() -> Iterator[None]:
    """They are made afterwards: row by row, a random key is the slowest of it."""
    with connection.schema_editor() as editor:
        for model in (IdempotencyRecord, IdempotencyEvent):
            for index in _indexes(model):
                editor.execute(index.remove_sql(model, editor))
    yield
    with connection.schema_editor() as editor:
        for model in (IdempotencyRecord, IdempotencyEvent):
            for index in _indexes(model):
                editor.execute(index.create_sql(model, editor))


def _indexes(model: type[Model]) -> list[Any]:
    constraints = model._meta.constraints
    return [*model._meta.indexes, *(c for c in constraints if isinstance(c, UniqueConstraint))]
