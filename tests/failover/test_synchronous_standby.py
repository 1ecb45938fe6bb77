"""The primary dies, its synchronous standby takes over, and the workers go on by themselves."""

import os
from collections import Counter

import pytest

from tests.failover.servers import ask, both, crash, cut_off, promote, through
from tests.failover.work import Left
from tests.harness.waiting import wait_until
from tests.jobs.tasks import leased, retried, transactional

pytestmark = pytest.mark.django_db(transaction=True)

#: Messages of each policy.
SIZE = int(os.environ.get("FAILOVER_SIZE", "60"))


def test_nothing_acknowledged_is_lost_and_nothing_is_doubled(
    cluster, work, worker, gates, tmp_path, call, queue
):
    standby = cluster.copy(follows=True)
    cluster.let_commits_wait()
    url = both(cluster.primary, standby)
    # One dies with the primary, between its effects and their records; the other goes on.
    (doomed := tmp_path / "doomed").mkdir()
    lost_gates = type(gates)(doomed)
    lost_gates.close("effect")
    work.outboxes.append(doomed / "outbox")
    dies = worker(database=url, concurrency=3, lease=4, TEST_GATES=doomed)
    work.send(1)
    held = set(work.sent)
    lost_gates.wait_for_arrivals("effect", 3)
    lives = worker(database=url, concurrency=3, lease=4)
    work.send(SIZE - 1)
    wait_until(lambda: len(work.acknowledged()) > SIZE, "the work to be in full swing", seconds=60)

    acknowledged = work.acknowledged()
    crash(cluster.primary)
    dies.kill()
    promote(standby)

    in_doubt = work.wait_ended()
    # Every doubt is visible, and is about something that nobody was told to be done.
    assert in_doubt >= {key for key in held if key.startswith("leased")}
    assert not in_doubt & acknowledged
    left = Left.on(standby)
    assert {key for key, state in left.states.items() if state == "in_doubt"} == in_doubt
    journal = work.journal()
    environment = {"DATABASE_URL": standby.url, "TEST_QUEUE": queue.name}
    resolve = call("tests.failover.work:resolve_doubts", environment, journal=journal)
    assert resolve.answer() == len(in_doubt)
    work.wait_done()

    left, seen = Left.on(standby), Counter(work.journal())
    assert lives.running
    assert left.states.keys() == work.sent.keys()
    assert set(left.states.values()) == {"succeeded"}
    assert left.has_effect(transactional) == left.succeeded(transactional)
    assert set(left.effects.values()) == {1}
    assert {seen[key] for key in left.succeeded(leased)} == {1}
    sent = {key: seen[left.provider_keys[key]] for key in left.succeeded(retried)}
    assert min(sent.values()) == 1
    assert not {key for key, times in sent.items() if times > 1} & acknowledged


SYNC_REP = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
CANCEL = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


def test_a_commit_that_waits_for_its_standby_is_no_success(cluster, work, worker, gates, proxy):
    standby = cluster.copy(follows=True)
    cluster.let_commits_wait()
    cut_off(standby)
    worker(database=through(proxy, cluster.primary))
    work.send_one(transactional)
    wait_until(lambda: ask(cluster.primary, SYNC_REP), "COMMIT to wait for the standby")
    proxy.go_down()
    proxy.come_up()
    # Its row is there already, and nobody sees it; that its lock is held says that it may come.
    gates.wait_for_arrivals("publish-transactional")
    assert work.acknowledged() == set()

    crash(cluster.primary)
    promote(standby)
    proxy.target = ("127.0.0.1", standby.port)
    work.wait_done()
    assert Left.on(standby).effects.total() == 1
    assert len(gates.arrivals("body")) == 2


def test_a_wait_for_the_standby_that_is_cancelled_is_taken_for_a_success(
    cluster, work, worker, proxy
):
    """A limit: who cancels the wait is told COMMIT, with a warning. (PostgreSQL manual,
    "Planning for High Availability")"""
    standby = cluster.copy(follows=True)
    cluster.let_commits_wait()
    cut_off(standby)
    worker(database=through(proxy, cluster.primary))
    work.send_one(transactional)
    wait_until(lambda: ask(cluster.primary, SYNC_REP), "COMMIT to wait for the standby")
    assert ask(cluster.primary, CANCEL)
    work.wait_done()
    crash(cluster.primary)
    promote(standby)
    left = Left.on(standby)
    assert left.states == {}
    assert left.effects.total() == 0


def test_the_doctor_says_when_standbys_follow_and_no_commit_waits_for_them(cluster, call):
    def findings():
        there = {"DATABASE_URL": cluster.primary.url}
        return call("tests.failover.work:findings", there).answer()

    cluster.copy(follows=True)
    assert "idempotency.I005" in findings()
    cluster.let_commits_wait()
    assert "idempotency.I005" not in findings()
