"""Record and effect are on the shard of the arguments: two PostgreSQL servers."""

import pytest
from celery import current_app

from idempotency.maintenance import purge, sweep
from idempotency.models import IdempotencyEvent
from idempotency.testing import deliver_twice
from tests.admin.records import ago, made
from tests.docs.blocks import ROOT
from tests.docs.test_pages import names_of
from tests.shards.tasks import ship
from tests.story.models import Execution

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "eu"]),
    pytest.mark.xdist_group("shards"),  # the second server is started once
]
BOTH = ("default", "eu")


def test_record_effect_and_events_are_on_the_server_of_the_arguments(servers_as_shards):
    for shard in BOTH:
        first, second = deliver_twice(ship, shard, f"of {shard}")
        assert (first.replayed, second.replayed) == (False, True)
        assert second.value == f"of {shard} on {shard}"
    assert servers_as_shards.effects() == [["of default"], ["of eu"]]
    assert servers_as_shards.states() == [["succeeded"], ["succeeded"]]
    for shard in BOTH:
        assert IdempotencyEvent.objects.using(shard).get().kind == "duplicate"


@pytest.mark.parametrize(("gate", "bodies"), [("effect", 2), ("end-ship", 1)])
def test_a_killed_workers_message_is_answered_on_its_server(
    gate, bodies, eu, servers_as_shards, worker, queue, gates
):
    """Killed before its COMMIT, and between that and the acknowledgement."""
    gates.close(gate)
    there = {"DJANGO_SETTINGS_MODULE": "tests.shards.settings", "TEST_EU": eu}
    holder = worker(**there)
    result = queue.send(ship.s("eu", "key"))
    gates.wait_for_arrivals(gate, seconds=60)
    holder.kill()
    gates.open(gate)
    worker(**there)
    assert result.get(timeout=60) == "key on eu"
    queue.wait_empty(seconds=60)
    assert len(gates.arrivals("delivery-ship")) == 2
    assert len(gates.arrivals("effect")) == bodies
    assert servers_as_shards.effects() == [[], ["key"]]
    assert servers_as_shards.states() == [[], ["succeeded"]]


def test_the_page_s_task_and_a_customer_who_is_moved(servers_as_shards, monkeypatch, settings):
    page = names_of(ROOT / "docs/how-to/shard.md")
    settings.DATABASE_ROUTERS = [page["ShardRouter"]()]
    [first, _] = deliver_twice(page["complete"], "eu", 7)
    assert Execution.objects.using("eu").get().pk == 7
    page["copy_records"]("eu", "default")
    monkeypatch.setitem(page["SHARDS"], "eu", "default")
    [again, _] = deliver_twice(page["complete"], "eu", 7)
    assert (again.replayed, again.value) == (True, first.value)
    assert not Execution.objects.using("default").exists()
    assert servers_as_shards.states() == [["succeeded"], ["succeeded"]]


def test_a_server_is_swept_and_purged_by_its_alias_and_beat_sees_to_both(servers_as_shards):
    for shard in BOTH:
        made("running", using=shard, lease_expires_at=ago(minutes=1))
        made("succeeded", using=shard, expires_at=ago(days=1))
    assert (sweep(using="eu").doubts, purge(using="eu").records) == (1, 1)
    assert servers_as_shards.states() == [["running", "succeeded"], ["in_doubt"]]
    swept = current_app.tasks["idempotency.sweep"]()
    assert {shard: swept[shard]["doubts"] for shard in swept} == {"default": 1, "eu": 0}
    purged = current_app.tasks["idempotency.purge"]()
    assert {shard: purged[shard]["records"] for shard in purged} == {"default": 1, "eu": 0}
    assert servers_as_shards.states() == [["in_doubt"], ["in_doubt"]]
