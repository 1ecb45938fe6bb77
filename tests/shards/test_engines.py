"""PostgreSQL as an engine whose advisory locks are a stub, or are refused."""

import pytest
from django.db import DatabaseError, connections

from idempotency import execute
from idempotency.models import IdempotencyRecord
from tests.execution.bodies import Thread
from tests.jobs.models import Effect
from tests.shards.tasks import effect

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "asked"])


@pytest.fixture
def engine(monkeypatch):
    """Let the function do this on ``asked``, where it is found before PostgreSQL's own."""
    given = connections.settings["asked"]["OPTIONS"]
    path = {"options": "-c search_path=engine,pg_catalog,public"}
    monkeypatch.setitem(connections.settings["asked"], "OPTIONS", given | path)

    def make(body):
        with connections["default"].cursor() as cursor:
            cursor.execute("CREATE SCHEMA engine")
            cursor.execute(
                "CREATE FUNCTION engine.pg_try_advisory_xact_lock(bigint) RETURNS boolean "
                f"LANGUAGE plpgsql AS $$ BEGIN {body}; END $$"
            )

    connections["asked"].close()
    yield make
    connections["asked"].close()
    with connections["default"].cursor() as cursor:
        cursor.execute("DROP SCHEMA engine CASCADE")


def test_without_advisory_locks_both_bodies_run_and_one_effect_stands(engine):
    engine("RETURN true")
    ran = []

    def body():
        ran.append(effect("asked", "key"))
        if len(ran) == 2:
            return "of the duplicate"
        with Thread(once) as duplicate:
            assert duplicate.result() == "of the duplicate"
        return "of the first"

    def once():
        return execute(body, key="key", scope="engine", using="asked").result

    assert once() == "of the duplicate"
    assert len(ran) == 2
    assert Effect.objects.get().key == "key"
    assert IdempotencyRecord.objects.get().state == "succeeded"


def test_an_engine_that_refuses_advisory_locks_runs_nothing(engine):
    engine("RAISE feature_not_supported")
    with pytest.raises(DatabaseError):
        execute(lambda: effect("asked", "key"), key="key", scope="engine", using="asked")
    assert not Effect.objects.exists()
    assert not IdempotencyRecord.objects.exists()
