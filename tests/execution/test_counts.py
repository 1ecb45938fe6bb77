"""What a call costs the database: numbers that repeat exactly, on any machine."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from psycopg import IsolationLevel, connect
from psycopg.conninfo import conninfo_to_dict

from idempotency import Leased, OnDoubt, Transactional, current_attempt, events
from idempotency.attempts import Delivery
from idempotency.calls import Call
from idempotency.exceptions import AlreadyRunning
from idempotency.execution import run
from idempotency.keys import digest
from idempotency.models import IdempotencyRecord, Kind
from idempotency.storage import postgresql
from tests.execution.bodies import Gate
from tests.harness.processes import database_url
from tests.harness.proxy import Proxy

pytestmark = pytest.mark.django_db(transaction=True)

TIMES = 10
HOLD = Leased(on_doubt=OnDoubt.HOLD)
RESULT = {"ok": True, "order": 12345678}  # 31 bytes of JSON
TASK_ID = "4b5ca92b-a9cb-4c9a-8f27-3ba1c4a2e3a8"
SCOPE = "shop.tasks.confirm"


def insert(key: str) -> dict[str, Any]:
    """A body of one statement."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO jobs_effect (key, note, pid, created_at) VALUES (%s, '', 1, now())", [key]
        )
    return RESULT


def bare(key: str) -> None:
    """What a body costs without us."""
    with transaction.atomic():
        insert(key)


class Message(Delivery):
    task_id = TASK_ID

    def __init__(self, *, repeated: bool, redelivered: bool) -> None:
        self.repeated, self.redelivered = repeated or redelivered, redelivered


def once(
    key: str,
    body: Callable[[str], Any] = insert,
    *,
    policy: Transactional | Leased = Transactional(),  # noqa: B008 frozen
    flagged: bool = False,
    redelivered: bool = False,
    fingerprint: object = 0,
) -> Any:
    return run(
        Call(
            function=lambda: body(key),
            key=digest(key, scope=SCOPE, fingerprint=fingerprint),
            policy=policy,
            delivery=Message(repeated=flagged, redelivered=redelivered),
        )
    ).result


@pytest.fixture
def late(gathering: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that writes events takes no part in a call."""
    monkeypatch.setattr(events, "GATHER_FOR", 3600)


@pytest.fixture
def trips(proxy: Proxy) -> Iterator[Callable[[Callable[[str], Any]], float]]:
    """How many round trips a call takes: ``trips(call)``, which calls it with several keys."""
    own = dict(connection.settings_dict)
    connection.close()
    through = conninfo_to_dict(proxy.url)
    connection.settings_dict |= {"HOST": through["host"], "PORT": through["port"]}
    connection.ensure_connection()

    def count(call: Callable[[str], Any]) -> float:
        before = proxy.round_trips
        for number in range(TIMES):
            call(f"key {number}")
        return (proxy.round_trips - before) / TIMES

    yield count
    connection.close()
    connection.settings_dict |= {"HOST": own["HOST"], "PORT": own["PORT"]}


def query(sql: str, *parameters: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()


@pytest.fixture
def merged() -> bool:
    """Whether this psycopg lets BEGIN travel with a statement; else it is one trip more."""
    connection.ensure_connection()
    return postgresql._merges_begin(connection.connection)


def test_the_psycopg_of_today_lets_begin_travel(merged):
    assert merged == ("TEST_PLAIN_BEGIN" not in os.environ)


def test_a_psycopg_without_the_private_name_costs_a_round_trip_and_says_so(
    trips, monkeypatch, caplog
):
    monkeypatch.setattr(postgresql, "AUTOCOMMIT", "_of_another_psycopg")
    postgresql._say_once_that_begin_goes_alone.cache_clear()
    assert trips(once) == 4
    [said] = caplog.messages
    assert "BEGIN goes alone" in said


def test_a_transaction_keeps_the_isolation_level_that_the_connection_is_given():
    connection.ensure_connection()
    connection.connection.isolation_level = IsolationLevel.SERIALIZABLE
    assert once("key", lambda key: query("SHOW transaction_isolation")) == ["serializable"]
    connection.close()


# -- round trips ---------------------------------------------------------------------------------


def test_a_first_execution_takes_no_round_trip_more_than_the_bare_transaction(trips, merged):
    assert trips(bare) == 3
    assert trips(once) == 4 - merged


def test_a_redelivered_message_whose_body_runs_takes_four_more_to_say_that_it_starts(trips, merged):
    """The look without a transaction; BEGIN with lock and look, the start note, COMMIT."""
    assert trips(lambda key: once(key, redelivered=True)) == 9 - 2 * merged


def test_a_duplicate_takes_two_round_trips_and_a_flagged_one_takes_one(trips, merged, late):
    trips(once)
    assert trips(once) == 3 - merged
    assert trips(lambda key: once(key, flagged=True)) == 1


def test_a_delivery_whose_key_is_busy_takes_two_and_a_flagged_one_takes_one(trips, merged, late):
    """One that was deferred before is flagged by that. Its event costs it nothing."""

    def deferred(*, flagged: bool) -> None:
        with pytest.raises(AlreadyRunning):
            once("busy", flagged=flagged)
        about = events.told(
            using="default",
            key_hash=digest("busy", scope=SCOPE).hashes[0],
            scope=SCOPE,
            task_id=TASK_ID,
        )
        events.announce(Kind.DEFERRED, about)

    gate = Gate()
    with gate.held(lambda: once("busy", lambda key: gate.pass_())):
        assert trips(lambda key: deferred(flagged=False)) == 3 - merged
        assert trips(lambda key: deferred(flagged=True)) == 1


def leased(key: str, body: Callable[[str], Any] = lambda key: RESULT) -> Any:
    return once(key, body, policy=HOLD)


def test_a_leased_execution_takes_two_round_trips_and_its_duplicate_one(trips, late):
    """The claim and the settlement, each of which commits by itself, and begins by itself."""
    assert trips(leased) == 2
    assert trips(leased) == 1


def test_a_leased_delivery_whose_key_is_busy_takes_one(trips):
    def refused(key: str) -> None:
        with pytest.raises(AlreadyRunning):
            leased("busy")

    gate = Gate()
    with gate.held(lambda: leased("busy", lambda key: gate.pass_())):
        assert trips(refused) == 1


def test_a_leased_execution_over_a_failure_takes_three_more_and_what_its_event_takes(trips, merged):
    """The claim finds the failure, and then BEGIN with lock and look, UPDATE, COMMIT."""
    policy = Leased(on_doubt=OnDoubt.HOLD, no_effect_errors=(KeyError,))

    def failed(key: str) -> None:
        with pytest.raises(KeyError):
            once(key, lambda key: {}[key], policy=policy)

    trips(failed)
    events_cost = 4  # BEGIN, how many there are, INSERT, COMMIT
    assert trips(leased) == 2 + 4 - merged + events_cost


def test_a_mark_takes_four_round_trips(trips):
    """BEGIN, the setting that flushes, UPDATE, COMMIT: Django's own statements."""
    marked = Leased(on_doubt=OnDoubt.HOLD, marks_effect=True)

    def mark(key: str) -> None:
        current_attempt().effect_begins()

    assert trips(lambda key: once(key, mark, policy=marked)) == 2 + 4


# -- WAL, transaction ids and space --------------------------------------------------------------


# By who wrote a row of ours: other tests write to the same server, at the same time. A sequence
# writes for the next 32 ids together, and anew after a checkpoint.
# (PostgreSQL source, commands/sequence.c, SEQ_LOG_VALS)
WRITTEN = """
SELECT coalesce(sum(record_length - fpi_length), 0)::int,
       count(*) FILTER (WHERE record_type = 'COMMIT')
  FROM pg_get_wal_records_info(%s, pg_current_wal_insert_lsn())
 WHERE xid IN (SELECT xmin FROM jobs_effect UNION SELECT xmin FROM idempotency_record)
   AND xid::text::bigint >= %s AND resource_manager <> 'Sequence'
"""


@pytest.fixture
def wal() -> Iterator[Callable[[Callable[[], Any]], tuple[int, int]]]:
    """What the transactions of a call wrote: bytes without images of whole pages, and commits."""
    with connect(database_url(), autocommit=True) as observer:
        observer.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")

        def written(call: Callable[[], Any]) -> tuple[int, int]:
            [(before, first)] = observer.execute(
                "SELECT pg_current_wal_insert_lsn(), pg_snapshot_xmax(pg_current_snapshot())"
            )
            call()
            [(size, commits)] = observer.execute(WRITTEN, [before, int(first)])
            return size, commits

        yield written


def test_a_first_execution_adds_at_most_380_bytes_of_wal_and_no_commit(wal):
    once("so that the tables and indexes have their first pages")
    size, commits = wal(lambda: bare("bare"))
    assert commits == 1
    size_once, commits_once = wal(lambda: once("key"))
    assert commits_once == 1
    assert size_once - size <= 380, "with a fingerprint, and a scope of 18 letters"


def test_no_transaction_id_is_held_while_the_body_computes():
    pid = query("SELECT pg_backend_pid()")

    def body(key: str) -> list[Any]:
        with connect(database_url()) as observer:
            return list(
                observer.execute(
                    "SELECT backend_xid::text, backend_xmin::text FROM pg_stat_activity"
                    " WHERE pid = %s",
                    pid,
                ).fetchone()
            )

    assert once("key", body) == [None, None]


def test_an_execution_leaves_no_dead_row():
    with connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pgstattuple")
    for number in range(TIMES):
        once(f"key {number}")
    assert query("SELECT tuple_count, dead_tuple_count FROM pgstattuple('idempotency_record')") == (
        TIMES,
        0,
    )


# Who reads a page of the catalog first after its rows have died prunes it, and that is written.
# Objects of a database begin at 16384. (PostgreSQL source, access/transam.h: FirstNormalObjectId)
PRUNED = """
SELECT count(*) FROM pg_get_wal_records_info(%s, pg_current_wal_flush_lsn()),
       pg_database, regexp_match(block_ref, 'rel \\d+/(\\d+)/(\\d+) ') AS at
 WHERE record_type = 'PRUNE_ON_ACCESS' AND datname = current_database()
   AND at[1]::oid = pg_database.oid AND at[2]::int < 16384
"""
FLUSHED = "SELECT pg_logical_emit_message(true, 'test', '')::text"


@pytest.mark.parametrize("flagged", [False, True])
@pytest.mark.parametrize("policy", [Transactional(), HOLD], ids=["transactional", "leased"])
def test_a_duplicate_writes_no_wal(policy, flagged, late):
    """Counted by the server for this session alone, but for what is pruned of the catalog."""

    def spent() -> int:
        query("SELECT pg_stat_force_next_flush()::text")
        return query("SELECT wal_records FROM pg_stat_get_backend_wal(pg_backend_pid())")[0]

    for number in range(TIMES):
        once(f"key {number}", policy=policy)
    with connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
        # Who reads a row first may write down that it is committed.
        cursor.execute("VACUUM idempotency_record")
    before, [begin] = spent(), query("SELECT pg_current_wal_insert_lsn()")
    for number in range(TIMES):
        once(f"key {number}", policy=policy, flagged=flagged)
    written = spent() - before
    query(FLUSHED)  # only what is flushed is told of
    assert written <= query(PRUNED, begin)[0]


SPENT = """
SELECT n_tup_hot_upd, (SELECT wal_records FROM pg_stat_get_backend_wal(pg_backend_pid()))
  FROM pg_stat_user_tables WHERE relname = 'idempotency_record'
"""
ATTENTION = "SELECT pg_get_indexdef('idempotency_record_attention'::regclass)"


def test_what_makes_a_settlement_no_hot_update_is_three_index_entries():
    def spent(tag: str) -> tuple[int, int]:
        """HOT updates, and records of WAL, all on the first page of the table and of each index."""
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE idempotency_record")
        leased(f"{tag}, the first")
        counts = []
        for number in range(2):
            for each in range(TIMES * number):
                leased(f"{tag} {each}")
            query("SELECT pg_stat_force_next_flush()::text")
            counts.append(query(SPENT))
        (hot_before, records_before), (hot, records) = counts
        return hot - hot_before, records - records_before

    [index] = query(ATTENTION)
    hot, records = spent("with the index")
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX idempotency_record_attention")
        try:
            hot_without, records_without = spent("without it")
        finally:
            cursor.execute(index)
    assert (hot, hot_without) == (0, TIMES)
    assert records - records_without == pytest.approx(3 * TIMES, abs=TIMES / 2)


MORE = """
WITH made AS (
    INSERT INTO idempotency_record
           (key_hash, scope, fingerprint, task_id, result, state, attempt, generation,
            created_at, settled_at, expires_at)
    SELECT gen_random_uuid(), scope, fingerprint, gen_random_uuid()::text, result, state,
           attempt, generation, created_at, settled_at, expires_at
      FROM idempotency_record, generate_series(1, %s)
    RETURNING 1
) SELECT count(*) FROM made
"""


@pytest.mark.parametrize(("fingerprint", "most"), [(None, 255), (0, 270)])
def test_a_record_takes_at_most_270_bytes_with_its_indexes(fingerprint, most):
    """An eighth of a million says what a million takes: how full the pages of an index over random
    keys are repeats with each doubling."""
    once("key", fingerprint=fingerprint)
    query(MORE, 125_000)
    size = query("SELECT pg_total_relation_size('idempotency_record')")[0]
    assert size / IdempotencyRecord.objects.count() <= most
