"""A call goes to the shard of its arguments, and all that looks after records finds it there."""

import pytest
from celery import current_app
from django.core import checks
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connections

from idempotency import Verdict, execute, jobs
from idempotency.checks.databases import aliases, aliases_of
from idempotency.exceptions import InDoubt, InsideTransaction, ShardUnknown, TransactionLost
from idempotency.models import IdempotencyEvent, ParkedMessage
from idempotency.resolution import resolve
from idempotency.storage.sqlite import SQLite
from idempotency.testing import Message, deliver_twice
from tests.admin.records import ago, made
from tests.execution.bodies import renamed
from tests.shards.tasks import charge, count, ship, transfer

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "sqlite"])
BOTH = ("default", "sqlite")
SHIP = "tests.shards.tasks.ship"


def test_one_key_on_two_shards_is_two_effects(shards):
    """The limit: a key is known on the shard that its record is on, and on no other."""
    for shard in BOTH:
        deliver_twice(ship, shard, "key")
    assert shards.effects() == [["key"], ["key"]]


def test_a_message_is_its_own_key_on_its_shard(shards):
    """The task object of a bound task is no argument of the callable."""
    assert [each.replayed for each in deliver_twice(count, "sqlite", "key")] == [False, True]
    assert (shards.effects(), shards.states()) == ([[], ["key"]], [[], ["succeeded"]])


def test_a_call_joins_no_transaction_across_one_that_commits_elsewhere(shards):
    """It would be rolled back with the outer one, and the one between would not call it again."""

    def innermost():
        execute(lambda: None, key="innermost", scope="test")

    def between():
        execute(innermost, key="between", scope="test", using="sqlite")

    with pytest.raises(InsideTransaction):
        execute(between, key="outer", scope="test")
    assert shards.states() == [["failed"], ["failed"]]


def test_a_doubt_is_parked_and_resolved_on_its_shard(shards):
    _, second = deliver_twice(charge, "sqlite", "key")
    assert isinstance(second.error, InDoubt)
    assert shards.states() == [[], ["in_doubt"]]
    assert [ParkedMessage.objects.using(shard).count() for shard in BOTH] == [0, 1]
    record = second.message.record
    resolve(record.key_hash, Verdict.happened("seen"), reason="a look", using="sqlite")
    assert not ParkedMessage.objects.using("sqlite").exists()
    assert second.message.deliver().value == "seen"


def test_a_deferral_is_told_on_the_shard(shards, monkeypatch):
    def lose(*_, **__):
        raise TransactionLost("lost", key="0" * 32)

    monkeypatch.setattr(SQLite, "lock_and_look", lose)
    assert len(Message(ship, "sqlite", "key").deliver().published) == 1
    assert IdempotencyEvent.objects.using("sqlite").get().kind == "deferred"


def test_a_shard_that_is_away_keeps_no_other_from_being_swept(shards, caplog):
    for shard in BOTH:
        made("running", using=shard, lease_expires_at=ago(minutes=1))
    with renamed("idempotency_record"), pytest.raises(DatabaseError):
        current_app.tasks["idempotency.sweep"]()
    assert shards.states() == [["running"], ["in_doubt"]]
    assert "On 'default' it ended early" in caplog.text


def test_a_command_finds_the_shard_of_a_key(shards, capsys):
    ship("sqlite", "key")
    call_command("idempotency_show", "key", scope=SHIP)
    assert "key on sqlite" in capsys.readouterr().out
    call_command("idempotency_allow_again", "key", scope=SHIP, reason="test")
    assert shards.states() == [[], ["failed"]]
    with pytest.raises(CommandError, match="No record has this key"):
        call_command("idempotency_show", "key", scope=SHIP, database="default")


def test_a_key_on_two_shards_is_told_by_the_database(shards):
    for shard in BOTH:
        ship(shard, "key")
    with pytest.raises(CommandError, match="are in default, sqlite: name one by --database"):
        call_command("idempotency_show", "key", scope=SHIP)


def test_the_admin_shows_the_shard_that_the_setting_names(admin_client, settings):
    ship("sqlite", "key")
    for shard, number in (("default", 0), ("sqlite", 1)):
        settings.IDEMPOTENCY = {"DATABASE": shard}
        page = admin_client.get("/admin/idempotency/idempotencyrecord/")
        assert page.context["cl"].result_count == number


@pytest.mark.parametrize("away", [False, True])
def test_the_shards_of_a_callable_are_where_the_routers_let_the_table_be(away, shards, monkeypatch):
    monkeypatch.setattr(jobs, "jobs", {SHIP: jobs.all_jobs()[SHIP]})
    if away:  # an alias whose driver is not there
        absent = {**connections.settings["default"], "ENGINE": "no.such.driver"}
        monkeypatch.setitem(connections.settings, "absent", absent)
        shards.aliases += ("absent",)
    assert aliases_of(jobs.jobs[SHIP]) == [*BOTH]
    assert aliases() == {
        "default": "IDEMPOTENCY['DATABASE']",
        "sqlite": "using= of tests.shards.tasks.ship",
    }


def test_each_shard_is_asked_for_its_tables(shards):
    with renamed("idempotency_record", using="sqlite"):
        found = checks.run_checks(tags=[checks.Tags.database], databases=["default", "sqlite"])
    assert "'sqlite' has no table idempotency_record" in " ".join(each.msg for each in found)


def test_a_message_whose_shard_is_unknown_waits_until_it_is_known(shards, monkeypatch):
    with monkeypatch.context() as before_the_deployment:
        before_the_deployment.delitem(connections.settings, "sqlite")
        delivered = Message(ship, "sqlite", "key").deliver()
    assert isinstance(delivered.error.__cause__, ShardUnknown)
    assert (shards.effects(), shards.states()) == ([[], []], [[], []])
    [again] = delivered.published
    assert again.deliver().value == "key on sqlite"
    assert (shards.effects(), shards.states()) == ([[], ["key"]], [[], ["succeeded"]])


def test_a_nested_call_on_another_shard_commits_by_itself(shards, monkeypatch):
    """Its own record protects it when the outer job is repeated."""

    def fail(gate):
        if gate == "transfer":
            raise ZeroDivisionError

    message = Message(transfer, "default", "key", to="sqlite")
    with monkeypatch.context() as patch:
        patch.setattr("tests.shards.tasks.reach", fail)
        assert isinstance(message.deliver().error, ZeroDivisionError)
    assert (shards.effects(), shards.states()) == ([[], ["key"]], [["failed"], ["succeeded"]])
    assert message.deliver().value == "key"
    assert shards.effects() == [["key"], ["key"]]


def test_the_message_of_a_nested_doubt_on_another_shard_is_deferred(shards, monkeypatch):
    """Not parked: the doubt is not on its own shard, where who resolves it would look."""
    monkeypatch.setattr("tests.shards.tasks.ship", charge)
    message = Message(transfer, "default", "key", to="sqlite")
    assert isinstance(message.deliver().error, TimeoutError)
    delivered = message.deliver()
    assert isinstance(delivered.error.__cause__, InDoubt)
    assert (delivered.parked, len(delivered.published)) == (False, 1)
    assert shards.states() == [["failed"], ["in_doubt"]]
