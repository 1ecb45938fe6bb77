"""Workers whose database is behind PgBouncer, and what becomes of them when it fails."""

from collections import Counter
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection

from idempotency import Leased, OnDoubt, Verdict, current_attempt, execute
from idempotency.events import told
from idempotency.exceptions import TransactionLost
from idempotency.models import IdempotencyRecord
from idempotency.parking import give_up
from idempotency.resolution import resolve
from idempotency.states import State
from tests.execution.bodies import effect
from tests.harness.pooler import behind, pgbouncer
from tests.harness.waiting import wait_until
from tests.harness.workers import kill_child
from tests.jobs.models import Effect, effects
from tests.jobs.tasks import leased, retried, transactional

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def pooler(transactional_db):
    """All clients together have two backends."""
    with pgbouncer(default_pool_size="2") as pooler:
        yield pooler


def assert_done_once(result, queue):
    result.get(timeout=30)
    queue.wait_empty()
    assert [record.state for record in IdempotencyRecord.objects.all()] == [State.SUCCEEDED]


def test_a_lease_is_renewed_without_a_backend_of_its_own(worker, queue, gates):
    gates.close("effect")
    with pgbouncer(default_pool_size="1") as pooler:
        worker(lease=2, database=pooler.url)
        result = queue.send(leased.s("key"))
        gates.wait_for_arrivals("effect")
        lease = IdempotencyRecord.objects.get().lease_expires_at
        wait_until(
            lambda: IdempotencyRecord.objects.get().lease_expires_at > lease,
            "the lease to be renewed",
        )
        gates.open("effect")
        assert_done_once(result, queue)
    assert IdempotencyRecord.objects.get().attempt == 1
    assert effects("key", "settled") == 1


def test_of_fifty_processes_on_two_backends_one_has_the_effect(pooler, call):
    ended = call(
        "tests.jobs.calls:stampede",
        {"DATABASE_URL": pooler.url},
        number=50,
        wait_seconds=30,
        hold=False,
    ).answer(seconds=60)
    assert [kind for kind, _ in ended] == ["returned"] * 50
    assert Counter(replayed for _, (_, replayed) in ended) == {False: 1, True: 49}
    assert effects("key") == 1


def test_a_worker_killed_in_the_body_leaves_one_effect(pooler, worker, queue, gates):
    gates.close("effect")
    worker(database=pooler.url)
    result = queue.send(transactional.s("key", "value"))
    kill_child(*gates.wait_for_arrivals("effect"))
    gates.open("effect")
    assert_done_once(result, queue)
    assert effects("key") == 1
    assert len(gates.arrivals("body")) == 2


@pytest.mark.parametrize("task", [transactional, retried])
@pytest.mark.parametrize("lost", ["the pooler", "the backend"])
def test_a_connection_lost_in_the_body_costs_nothing(lost, task, pooler, worker, queue, gates):
    gates.close("effect")
    worker(database=pooler.url)
    result = queue.send(task.s("key"))
    gates.wait_for_arrivals("effect")
    if lost == "the pooler":
        pooler.kill()
        pooler.start()
    else:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert cursor.fetchall()
    gates.open("effect")
    assert_done_once(result, queue)
    outbox = gates.directory / "outbox"
    sent = outbox.read_text().splitlines() if outbox.exists() else []
    assert effects("key") + len(sent) == 1


def test_behind_a_statement_pooler_no_transaction_runs(transactional_db):
    with pgbouncer(pool_mode="statement") as pooler, behind(pooler):
        with pytest.raises(TransactionLost) as refused:
            execute(effect, key="key", scope="test")
        assert "transaction blocks not allowed" in str(refused.value.__cause__)
    assert Effect.objects.count() == 0


def test_behind_a_statement_pooler_a_first_claim_passes_and_all_else_of_a_lease_is_refused(
    transactional_db,
):
    second = timedelta(seconds=1)
    held = Leased(on_doubt=OnDoubt.HOLD, lease=second)
    repeated = Leased(on_doubt=OnDoubt.RETRY, provider_window=None, lease=second)
    marked = Leased(on_doubt=OnDoubt.HOLD, lease=second, marks_effect=True)

    def claim(key, policy, body=effect):
        return execute(body, key=key, scope="test", policy=policy).result

    with pytest.raises(ZeroDivisionError):
        claim("doubt", held, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        claim("failed", repeated, lambda: 1 / 0)
    [doubt] = IdempotencyRecord.objects.filter(state=State.IN_DOUBT)
    with pgbouncer(pool_mode="statement") as pooler, behind(pooler):
        assert claim("first", held) == claim("first", held) == "effect"
        for refused in (
            lambda: claim("mark", marked, lambda: current_attempt().effect_begins()),
            lambda: claim("failed", repeated),
            lambda: claim("raises", held, lambda: 1 / 0),
        ):
            with pytest.raises(TransactionLost):
                refused()
        about = told(using="default", key_hash=doubt.key_hash, scope="test", task_id="id")
        for refused in (
            lambda: resolve(doubt.key_hash, Verdict.happened(), reason=""),
            lambda: give_up(about, task_id="id", message="{}"),
        ):
            with pytest.raises(DatabaseError, match="transaction blocks not allowed"):
                refused()
    assert Effect.objects.count() == 1
