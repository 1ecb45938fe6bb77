"""What follows a crash where the copy that takes over has not seen the last commits.

The limit, shown: it is the database that forgets, and with it we.
"""

import os
from collections import Counter

import pytest

from tests.failover.servers import crash, cut_off, promote, through, wait_received
from tests.failover.work import Left
from tests.harness.waiting import wait_until
from tests.jobs.tasks import leased, retried, transactional

pytestmark = pytest.mark.django_db(transaction=True)

#: Messages of each policy.
SIZE = int(os.environ.get("FAILOVER_SIZE", "15"))


@pytest.mark.parametrize("kind", ["asynchronous standby", "restored backup"])
def test_what_the_copy_has_not_seen_is_gone_whole_and_may_happen_again(
    kind, cluster, work, worker, proxy, call, queue
):
    standby = cluster.copy(follows=True) if kind == "asynchronous standby" else None
    lives = worker(database=through(proxy, cluster.primary), concurrency=3, lease=4)
    work.send(SIZE)
    wait_until(lambda: len(work.acknowledged()) > SIZE, "the work to be in full swing", seconds=60)
    known = work.acknowledged()
    if standby:
        wait_received(copy := standby, cluster.primary)
        cut_off(copy)
    else:
        copy = cluster.copy(follows=False)
    work.send(5)
    work.wait_done()
    queue.wait_empty()

    crash(cluster.primary)
    if standby:
        promote(copy)
    else:
        copy.start()
    proxy.target = ("127.0.0.1", copy.port)

    # Rows and their record are gone together, or there together.
    left, before = Left.on(copy), Counter(work.journal())
    assert left.has_effect(transactional) == left.succeeded(transactional)
    assert left.has_effect(leased) == left.succeeded(leased)
    lost = work.sent.keys() - left.states.keys()
    assert {key.partition("-")[0] for key in lost} == {"transactional", "leased", "retried"}
    if standby:
        assert not lost & known  # what it had received stays
    # A claim that came through without its settlement is a doubt, as after any death.
    claimed = {key for key in left.states if key.startswith("leased")} - left.succeeded(leased)

    work.send_again()
    in_doubt = work.wait_ended()
    assert lives.running
    assert in_doubt <= claimed
    now, after = Left.on(copy), Counter(work.journal())
    assert set(now.effects.values()) == {1}
    assert {key: now.states[key] for key in lost} == dict.fromkeys(lost, "succeeded")
    # HOLD has sent again what it was made to forget, and nothing else.
    repeated = {
        key for key in work.sent if after[key] == before[key] + 1 and key.startswith("leased")
    }
    assert repeated >= {key for key in lost if key.startswith("leased")}
    assert not repeated & left.states.keys() - claimed
    # So has RETRY: here the provider can tell.
    for key in now.succeeded(retried) & lost:
        assert after[now.provider_keys[key]] == 2
