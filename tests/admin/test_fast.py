"""What the admin asks of the database stays small, whatever the table holds."""

import json
import re
from itertools import chain

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from idempotency import backlog, jobs
from idempotency.admin import base, search
from idempotency.models import IdempotencyRecord
from tests.admin.records import event, made, parked

pytestmark = pytest.mark.django_db

# Some of each state, as they are after a bad month: one in twenty has failed.
FILL = """
INSERT INTO idempotency_record
       (key_hash, scope, state, attempt, generation, created_at, settled_at, expires_at,
        claim_id, policy, claimed_at, lease_expires_at, effect_begun_at, exhausted_at, task_id)
SELECT md5(n::text)::uuid, 'shop.' || n % 7, state, 1 + (n % 90 = 0)::int, 1, at,
       CASE WHEN state <> 'running' THEN at END, at + interval '30 days',
       gen_random_uuid(), CASE WHEN state <> 'succeeded' THEN 'hold' END, at,
       CASE WHEN state = 'running' THEN at + interval '5 minutes' END, at,
       CASE WHEN state = 'failed' AND n % 300 = 21 THEN at END, md5('task' || n)
  FROM (SELECT n, now() - interval '50 s' * (50000 - n) AS at,
               CASE WHEN n % 100 = 0 THEN 'running' WHEN n % 20 = 1 THEN 'failed'
                    ELSE 'succeeded' END AS state
          FROM generate_series(1, 50000) n) made;
UPDATE idempotency_record SET state = 'in_doubt' WHERE state = 'running' AND id % 300 < 100;
INSERT INTO idempotency_event (at, kind, key_hash, scope, redelivered, note, task_id)
SELECT now(), 'duplicate', md5(n::text)::uuid, 'shop.1', false, '', md5('task' || n)
  FROM generate_series(1, 50000) n;
ANALYZE idempotency_record, idempotency_event;
-- As after a VACUUM, which no transaction can contain: the planner then reads an index alone.
UPDATE pg_class SET relallvisible = relpages WHERE relname = 'idempotency_record';
"""

ADDRESSES = {
    "the list": {},
    "its last page": {"p": "2"},
    "an order that nobody offers": {"o": "5"},
    **{f"state {name}": {"state": name} for name in ("in_doubt", "lapsed", "running")},
    **{f"state {name}": {"state": name} for name in ("failed", "exhausted", "succeeded")},
    "scope": {"scope": "shop.3"},
    "an unknown scope": {"scope": "none"},
    **{f"age {name}": {"age": name} for name in ("1h", "24h", "7d")},
    "attempts": {"attempts": "many"},
    "expiring soon": {"expires": "soon"},
    "a handwritten filter": {"owner__icontains": "worker"},
    "all of them": {"scope": "shop.3", "age": "7d", "attempts": "many", "state": "failed"},
    "search by key": {"q": "shop.3: order-7"},
    "search by hash": {"q": "c4ca4238a0b923820dcc509a6f75849b"},
    "search by its first digits": {"q": "c4ca4238"},
    "search by task id": {"q": "2b8ba5a4-a2a1-4b4c-a6a5-6f6f6f6f6f6f"},
    "search within a filter": {"q": "c4ca4238", "scope": "shop.3"},
    **{
        f"{state}, of an unknown scope": {"state": state, "scope": "none"}
        for state in ("failed", "exhausted", "lapsed", "in_doubt", "running", "succeeded")
    },
    "failed lately": {"state": "failed", "age": "1h"},
    "failed, and soon forgotten": {"state": "failed", "expires": "soon"},
}


def asked(client, name, *args, **query):
    """The statements of a page that read a table of ours."""
    with CaptureQueriesContext(connection) as queries:
        response = client.get(reverse(f"admin:idempotency_{name}", args=args), query)
    assert response.status_code == 200, response
    return [each["sql"] for each in queries if "idempotency_" in each["sql"]], len(queries)


def nodes(plan):
    yield plan
    yield from chain.from_iterable(map(nodes, plan.get("Plans", [])))


def plan_of(sql, options="FORMAT JSON"):
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN ({options}) {sql}")
        [(told,)] = cursor.fetchall()
    return list(nodes((json.loads(told) if isinstance(told, str) else told)[0]["Plan"]))


def scans(sql):
    """The tables that a statement reads to their end."""
    return {node["Relation Name"] for node in plan_of(sql) if "Seq Scan" in node["Node Type"]}


def rows_read(sql):
    """How many rows a statement looks at, whether they are wanted or not."""
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in plan_of(sql, "ANALYZE, FORMAT JSON")
        if "Relation Name" in node and node["Node Type"] != "Index Only Scan"
    )


@pytest.fixture
def month(monkeypatch):
    """A month of records, and windows as small against it as ours are against ten million."""
    monkeypatch.setattr(base.BoundedChangeList, "WINDOW", 2_000)
    monkeypatch.setattr(base.BoundedChangeList, "OF_STATE", 100)
    monkeypatch.setattr(search, "NEWEST", 500)
    monkeypatch.setattr(backlog, "STRETCH", 25)
    monkeypatch.setattr(search, "OF_STATE", 100)
    monkeypatch.setattr(backlog, "CAP", 100)
    monkeypatch.setattr(base.CappedPaginator, "CAP", 100)
    monkeypatch.setattr(jobs, "all_jobs", lambda: dict.fromkeys(f"shop.{n}" for n in range(7)))
    with connection.cursor() as cursor:
        cursor.execute(FILL)


def test_no_page_reads_a_table_to_its_end(admin_client, month):
    seen = set()
    pages = {
        **{what: ("idempotencyrecord_changelist", query) for what, query in ADDRESSES.items()},
        "the dashboard": ("dashboard", {}),
        "events": ("idempotencyevent_changelist", {}),
        "events of a kind": ("idempotencyevent_changelist", {"kind__exact": "failed"}),
        "events of a key": ("idempotencyevent_changelist", {"q": "c4ca4238"}),
    }
    for what, (name, query) in pages.items():
        statements, _ = asked(admin_client, name, **query)
        assert statements, what
        for sql in statements:
            read = scans(sql) & {"idempotency_record", "idempotency_event"}
            assert not read, f"{what} reads {read} to its end:\n{sql}"
            assert "DISTINCT" not in sql
            assert "LIKE" not in sql or "owner" in sql
            seen |= set(re.findall(r"idempotency_\w+", sql))
    assert {"idempotency_record", "idempotency_event", "idempotency_parked_message"} <= seen


def test_no_list_reads_all_that_failed(admin_client, month):
    """A job that fails all the time leaves millions."""
    failed = IdempotencyRecord.objects.filter(state="failed").count()
    assert failed > base.BoundedChangeList.WINDOW
    for what, query in ADDRESSES.items():
        for sql in asked(admin_client, "idempotencyrecord_changelist", **query)[0]:
            assert rows_read(sql) < failed, f"{what} reads {rows_read(sql)} rows:\n{sql}"


def test_what_needs_attention_is_counted_without_reading_each_failure(admin_client, month):
    read = [
        rows_read(sql)
        for sql in asked(admin_client, "idempotencyrecord_changelist")[0]
        if "'failed'" in sql
    ]
    assert len(read) == 3, read
    assert sum(read) < 300, read


def test_the_page_of_a_record_reads_by_index_too(admin_client, month):
    record = IdempotencyRecord.objects.filter(state="in_doubt").first()
    for sql in asked(admin_client, "idempotencyrecord_change", record.pk)[0]:
        assert not scans(sql) & {"idempotency_record", "idempotency_event"}, sql


def test_no_list_reads_results_and_messages_that_it_does_not_show(admin_client):
    for row in (made(result='"large"'), made("in_doubt")):
        parked(row)
    statements, _ = asked(admin_client, "idempotencyrecord_changelist")
    assert not any('"result"' in sql or '"error_message"' in sql for sql in statements)


@pytest.mark.parametrize("query", ADDRESSES.values(), ids=ADDRESSES)
def test_the_number_of_statements_does_not_grow_with_the_rows(admin_client, query):
    query = {name: value for name, value in query.items() if name != "p"}

    def fill():
        row = made("in_doubt")
        event(row, "deferred")
        parked(row)
        return row

    row = fill()
    asked(admin_client, "idempotencyrecord_change", row.pk)  # Django remembers content types
    counts = [asked(admin_client, "idempotencyrecord_changelist", **query)[1]]
    page = [asked(admin_client, "idempotencyrecord_change", row.pk)[1]]
    numbers = [asked(admin_client, "dashboard")[1]]
    for _ in range(9):
        fill()
        event(row, "deferred")
        parked(row)
    counts.append(asked(admin_client, "idempotencyrecord_changelist", **query)[1])
    page.append(asked(admin_client, "idempotencyrecord_change", row.pk)[1])
    numbers.append(asked(admin_client, "dashboard")[1])
    assert len(set(counts)) == 1, counts
    assert len(set(numbers)) == 1, numbers
    assert len(set(page)) == 1, page
    assert counts[0] <= 25
    assert page[0] <= 8
    assert numbers[0] <= 17
