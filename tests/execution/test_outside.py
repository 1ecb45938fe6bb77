"""What a transactional body does outside of its transaction is said, once for each scope."""

from types import SimpleNamespace

import pytest
from django.db import connections, transaction

from idempotency import Leased, OnDoubt, execute, outside
from tests.jobs.models import Effect

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "sqlite"])


@pytest.fixture(autouse=True)
def said(monkeypatch, caplog):
    """What was said, and nothing of it by an earlier test."""
    monkeypatch.setattr(outside, "_hooks_said", set())
    monkeypatch.setattr(outside, "_writes_said", set())

    def said():
        return [
            "hook" if "on_commit hook" in record.getMessage() else "write"
            for record in caplog.records
            if record.funcName in ("say_hooks", "_say_write")
        ]

    return said


def once(body, key="key", scope="test", **options):
    return execute(body, key=key, scope=scope, **options)


def write(using="sqlite"):
    Effect.objects.using(using).create(key="key", note="effect", pid=1)


def hook():
    transaction.on_commit(int)


def test_a_hook_that_the_body_leaves_is_said_once_for_each_scope(said):
    for key in (1, 2):
        once(hook, key=key)
    assert said() == ["hook"]
    once(hook, scope="another")
    assert said() == ["hook"] * 2


def test_hooks_that_have_rolled_back_or_run_are_not_said(said):
    def body():
        with transaction.atomic():
            hook()
            transaction.set_rollback(True)
        transaction.on_commit(int, using="sqlite")  # no transaction there: it runs at once

    once(body)
    assert said() == []


def test_a_write_through_another_alias_is_said_once_for_each_scope(said, caplog):
    for key in (1, 2):
        once(write, key=key)
    assert said() == ["write"]
    assert "writes to the database 'sqlite', and its record is in 'default'" in caplog.text
    once(write, scope="another")
    assert said() == ["write"] * 2


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO jobs_effect SELECT * FROM jobs_effect",
        "  update jobs_effect SET pid = 2",
        "DELETE FROM jobs_effect",
        "REPLACE INTO jobs_effect SELECT * FROM jobs_effect",
    ],
)
def test_every_kind_of_write_is_known(sql, said):
    once(lambda: connections["sqlite"].cursor().execute(sql) and None)
    assert said() == ["write"]


def test_what_is_written_where_the_record_is_or_only_read_is_not_said(said):
    def body():
        write("default")
        list(Effect.objects.using("sqlite"))
        connections["sqlite"].cursor().execute("SELECT 'update' AS inserted")

    once(body)
    assert said() == []


def test_a_job_of_ours_on_the_other_alias_is_protected_by_its_own_record(said):
    once(lambda: once(write, using="sqlite").result)
    assert said() == []
    once(write, key="after")  # and the watch goes on
    assert said() == ["write"]


def test_nothing_is_watched_after_the_body_or_in_a_leased_one(said):
    once(lambda: (write(), hook()), policy=Leased(on_doubt=OnDoubt.HOLD))
    once(int, key="another")
    write()
    assert said() == []


def test_nothing_is_watched_after_a_body_that_failed(said):
    with pytest.raises(ZeroDivisionError):
        once(lambda: 1 / 0)
    write()
    assert said() == []


def test_a_connection_that_the_body_opens_is_watched_and_each_only_once(said):
    def body():
        connections["sqlite"].close()
        connections["sqlite"].ensure_connection()
        write()

    once(body)
    assert said() == ["write"]
    assert connections["sqlite"].execute_wrappers.count(outside.say_write) == 1


def test_where_there_is_one_database_no_statement_is_watched(monkeypatch):
    watched = SimpleNamespace(execute_wrappers=[])
    monkeypatch.setattr(outside, "connections", ["default"])
    outside.watch(watched)
    assert watched.execute_wrappers == []


def test_a_nested_call_of_ours_leaves_no_hook_of_the_body_s(said):
    once(lambda: once(int, key="child").result)
    assert said() == []
    once(hook, key="after")
    assert said() == ["hook"]


def test_an_alias_that_cannot_be_loaded_stops_nothing(said, settings, monkeypatch):
    absent = {**connections.settings["default"], "ENGINE": "no.such.driver"}
    monkeypatch.setitem(connections.settings, "absent", absent)
    assert once(lambda: "done").result == "done"
