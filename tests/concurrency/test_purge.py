"""A purge beside those who write: what became alive meanwhile stays, and nobody else waits."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import QuerySet
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from psycopg import Connection, connect

from idempotency import execute, maintenance
from idempotency.maintenance import purge
from idempotency.models import IdempotencyRecord
from tests.admin.records import ago, made
from tests.execution.bodies import Thread, waits_for_a_lock
from tests.harness.pages import QUARTER, without_pages
from tests.harness.processes import database_url
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_pages(transactional_db):
    without_pages()


ONE_PAGE = override_settings(IDEMPOTENCY={"PURGE_BATCH": 1})

WAITING = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'DELETE%'
"""
MANY = """
INSERT INTO idempotency_record
       (key_hash, scope, state, attempt, generation, settled_at, expires_at, result)
SELECT md5(n::text)::uuid, 'test', 'succeeded', 1, 1, now(), now(), repeat('x', 1800)
  FROM generate_series(1, 100) n
"""
ALIVE = "UPDATE idempotency_record SET expires_at = now() + interval '1 day' WHERE id = %s"
ANEW = "UPDATE idempotency_record SET attempt = 2 WHERE id = %s"


def forgotten(number: int) -> list[int]:
    return [made(result=QUARTER, expires_at=ago(hours=1)).pk for _ in range(number)]


def kept() -> QuerySet:
    return IdempotencyRecord.objects.order_by("pk").values_list("pk", flat=True)


def ask(sql: str, *parameters: int) -> str | int:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        [value] = cursor.fetchone()
    return value


def page_of(pk: int) -> int:
    at = ask("SELECT ctid FROM idempotency_record WHERE id = %s", pk)
    return int(at.strip("()").split(",")[0])


def pages() -> int:
    return ask("SELECT pg_relation_size('idempotency_record') / 8192")


@contextmanager
def changed(pk: int, change: str) -> Iterator[Connection]:
    """A record that somebody has changed, and not committed yet."""
    with connect(database_url()) as writer:
        writer.execute(change, [pk])
        yield writer


def wait_for(purges: int) -> None:
    """Until so many wait for a row."""
    with connect(database_url(), autocommit=True) as observer:
        wait_until(
            lambda: observer.execute(WAITING).fetchone() == (purges,),
            f"{purges} that wait for a row",
        )


def answer_of(call):
    with Thread(call) as other:
        return other.result()


@pytest.fixture
def patient(monkeypatch):
    """A purge that waits for a row until the test has seen it wait."""
    monkeypatch.setattr(maintenance, "PATIENCE", timedelta(minutes=1))


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("number", [4, 3], ids=["and moved", "in its page"])
def test_a_record_that_became_alive_between_scan_and_delete_stays(number):
    pks = forgotten(number)
    with changed(pks[1], ALIVE) as writer, Thread(purge) as purging:
        wait_for(1)
        writer.commit()
        assert purging.result().records == number - 1
    assert list(kept()) == [pks[1]]
    assert page_of(pks[1]) == (number == 4)


@pytest.mark.usefixtures("patient")
@ONE_PAGE
def test_a_record_that_moved_and_is_forgotten_is_found_by_the_next_purge_at_the_latest():
    pks = forgotten(8)
    with changed(pks[1], ANEW) as writer, Thread(purge) as purging:
        wait_for(1)
        writer.commit()
        assert purging.result().records in (7, 8)
    purge()
    assert list(kept()) == []


@pytest.mark.usefixtures("patient")
@ONE_PAGE
def test_two_purges_at_once_delete_each_record_once():
    pks = forgotten(12)
    with changed(pks[5], ALIVE) as writer, Thread(purge) as one, Thread(purge) as other:
        wait_for(2)
        writer.commit()
        assert one.result().records + other.result().records == 11
    assert list(kept()) == [pks[5]]


@pytest.mark.usefixtures("patient")
def test_a_record_that_became_alive_stays_whatever_level_of_isolation_is_set():
    pks = forgotten(3)

    def purge_by_a_snapshot():
        ask("SELECT set_config('default_transaction_isolation', 'repeatable read', false)")
        return purge()

    with changed(pks[1], ALIVE) as writer, Thread(purge_by_a_snapshot) as purging:
        wait_for(1)
        writer.commit()
        assert purging.result().records == 2
    assert list(kept()) == [pks[1]]


@ONE_PAGE
def test_a_batch_with_a_row_that_is_being_written_is_left_to_the_next_purge(caplog):
    pks = forgotten(8)
    with caplog.at_level("INFO"), changed(pks[1], ANEW) as writer:
        assert purge().records == 4
        assert "left to the next purge" in caplog.text
        writer.commit()
    assert kept().count() == 4
    assert purge().records == 4


def test_a_transaction_that_revives_two_keys_is_no_deadlock_with_a_purge():
    """The purge deletes one, and wants the other; the transaction has the other, and wants the
    one."""
    for key in ("one", "other", "outer"):
        execute(lambda: "before", key=key, scope="test")
    IdempotencyRecord.objects.update(expires_at=ago(hours=1))
    runs, purging = [], Thread(purge)

    def body():
        runs.append(1)
        execute(lambda: None, key="other", scope="test")
        with purging:
            wait_until(
                lambda: waits_for_a_lock() or purging.has_ended(), "the purge to meet the other"
            )
            execute(lambda: None, key="one", scope="test")
            assert purging.result().records == 0

    execute(body, key="outer", scope="test")
    assert runs == [1]
    assert kept().count() == 3


def test_a_purge_in_manual_commit_mode_is_committed_by_whoever_does():
    [pk] = forgotten(1)
    transaction.set_autocommit(False)
    try:
        alive = made(key="alive").pk
        assert purge().records == 1
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert list(kept()) == [alive] != [pk]


@pytest.mark.usefixtures("patient")
def test_a_purge_that_waits_keeps_nobody_from_another_key():
    execute(lambda: "alive", key="known", scope="test")
    pks = forgotten(3)
    with changed(pks[2], ANEW) as writer, Thread(purge) as purging:
        wait_for(1)
        known = answer_of(lambda: execute(lambda: "again", key="known", scope="test"))
        new = answer_of(lambda: execute(lambda: "new", key="new", scope="test"))
        writer.commit()
        assert purging.result().records == 3
    assert (known.result, new.result) == ("alive", "new")
    assert kept().count() == 2


@ONE_PAGE
def test_empty_pages_that_a_rollback_left_hide_no_row_and_cost_a_look_each():
    forgotten(8)
    with connect(database_url()) as writer:
        writer.execute(MANY)
        last = forgotten(1)
        writer.rollback()
    assert page_of(last[0]) > 20
    with CaptureQueriesContext(connection) as queries:
        assert purge().records == 9
    assert sum("ctid" in query["sql"] for query in queries) == pages() + 1


@ONE_PAGE
def test_a_table_that_is_cut_while_it_is_purged_is_purged_all_the_same():
    forgotten(8)
    gone = forgotten(40)
    IdempotencyRecord.objects.filter(pk__in=gone).delete()
    sizes = [pages()]

    def cut(_: int) -> None:
        with connect(database_url(), autocommit=True) as other:
            other.execute("VACUUM idempotency_record")
        sizes.append(pages())

    assert purge(progress=cut).records == 8
    assert (sizes[0], sizes[1], sizes[-1]) == (12, 2, 0)


FLUSHES = (
    "SELECT sum(fsyncs)::int FROM pg_stat_get_backend_io(pg_backend_pid()) WHERE object = 'wal'"
)


def flushes() -> int:
    """How often this session has waited for its WAL to be on disk."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()::text")
    return ask(FLUSHES)


@ONE_PAGE
def test_no_batch_waits_for_the_disk():
    pks = forgotten(12)
    before = flushes()
    assert purge().records == 12
    assert flushes() == before
    # Somebody else's flush may be ours as well. (PostgreSQL manual, "commit_delay")
    wait_until(lambda: forgotten(1) and flushes() > before, "a flush that is counted")
    assert not kept().filter(pk__in=pks).exists()


def test_somebody_s_transaction_around_a_purge_is_on_disk_when_it_commits():
    forgotten(1)
    with transaction.atomic():
        assert purge().records == 1
        assert ask("SHOW synchronous_commit") == "on"
