"""What an operator types, and is told."""

import io
import json
import os
import re
from datetime import timedelta

import pytest
from celery import current_app
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db import connection, connections
from django.db.models.signals import post_delete
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from idempotency import Leased, OnDoubt, execute, idempotent, jobs
from idempotency.maintenance import Purged, purge
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage, Reason
from idempotency.parking import park
from idempotency.resolution import allow_again
from tests.admin.records import ago, made
from tests.harness.pages import QUARTER, without_pages

pytestmark = pytest.mark.django_db(transaction=True)

HOLD = Leased(on_doubt=OnDoubt.HOLD)


def run(command, *arguments):
    output = io.StringIO()
    call_command(f"idempotency_{command}", *arguments, stdout=output, no_color=True)
    return output.getvalue()


def run_json(command, *arguments):
    return json.loads(run(command, *arguments, "--json"))


def doubt(key="key", scope="test"):
    def body():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        execute(body, key=key, scope=scope, policy=HOLD)
    return IdempotencyRecord.objects.get(scope=scope)


def forget(**which):
    IdempotencyRecord.objects.filter(**which).update(expires_at=timezone.now() - timedelta(hours=1))


# -- purge ---------------------------------------------------------------------------------------


@override_settings(IDEMPOTENCY={"PURGE_BATCH": 2})
def test_a_purge_deletes_what_is_forgotten_and_nothing_else():
    for number in range(5):
        execute(lambda: QUARTER, key=number, scope="old")
    execute(lambda: QUARTER, key=1, scope="new")
    forget(scope="old")
    purged = purge()
    assert purged.records == 5
    assert timedelta(hours=1) <= purged.lag < timedelta(hours=2)
    assert [record.scope for record in IdempotencyRecord.objects.all()] == ["new"]
    assert purge().lag is None


@override_settings(IDEMPOTENCY={"PURGE_BATCH": 1})
def test_the_lag_is_that_of_the_first_that_is_forgotten():
    without_pages()
    for hours in (-1, 3, 2, -1):
        for _ in range(4):
            made(result=QUARTER, expires_at=ago(hours=hours))
    assert timedelta(hours=3) <= purge().lag < timedelta(hours=4)


@override_settings(IDEMPOTENCY={"PURGE_BATCH": 1})
def test_a_purge_reads_no_page_twice_but_that_of_the_first_that_is_forgotten():
    without_pages()
    for hours in (-1, -1, 3, -1):
        for _ in range(4):
            made(result=QUARTER, expires_at=ago(hours=hours))
    with CaptureQueriesContext(connection) as queries:
        purge()
    reads = [query["sql"].split()[0] for query in queries if "ctid" in query["sql"]]
    assert reads == ["SELECT", "SELECT", "SELECT", "DELETE", "DELETE"]


@pytest.mark.django_db(databases=["default", "sqlite"])
@override_settings(IDEMPOTENCY={"PURGE_BATCH": 2})
def test_a_purge_along_ids_steps_over_what_earlier_ones_have_deleted():
    for _ in range(4):
        last = made(expires_at=ago(hours=1), using="sqlite").pk
    IdempotencyRecord.objects.using("sqlite").filter(pk=last).update(id=last + 10_000)
    with CaptureQueriesContext(connections["sqlite"]) as queries:
        assert purge(using="sqlite").records == 4
    assert len(queries) < 20


@pytest.mark.django_db(databases=["default", "sqlite"])
@override_settings(IDEMPOTENCY={"PURGE_BATCH": 2})
def test_a_purge_along_ids_takes_whole_batches_where_a_purge_before_it_has_left_gaps():
    for number in range(4):
        record = made(expires_at=ago(hours=1), using="sqlite")
        IdempotencyRecord.objects.using("sqlite").filter(pk=record.pk).update(
            id=record.pk + 1000 * number
        )
    with CaptureQueriesContext(connections["sqlite"]) as queries:
        purge(using="sqlite")
    deletes = [query["sql"] for query in queries if query["sql"].startswith("DELETE")]
    assert sum('FROM "idempotency_record"' in sql for sql in deletes) == 2, deletes


def test_a_purge_looks_and_deletes_in_one_statement_whoever_listens():
    """Between two statements a delivery could claim the record."""
    execute(lambda: None, key=1, scope="old")
    forget()

    def listen(**_):
        pass

    post_delete.connect(listen)
    try:
        with CaptureQueriesContext(connection) as queries:
            assert purge().records == 1
    finally:
        post_delete.disconnect(listen)
    [deleted] = [q["sql"] for q in queries if q["sql"].startswith('DELETE FROM "idempotency_rec')]
    assert "expires_at" in deleted


@pytest.mark.parametrize("state", ["in_doubt", "exhausted", "waited for"])
def test_a_purge_leaves_what_somebody_waits_for(state):
    record = doubt()
    rows = IdempotencyRecord.objects.filter(pk=record.pk)
    if state == "exhausted":
        now = timezone.now()
        rows.update(state="failed", settled_at=now, exhausted_at=now, lease_expires_at=None)
    elif state == "waited for":
        park("default", record.key_hash, Reason.IN_DOUBT, task_id="1", message=None)
        rows.update(state="failed", settled_at=timezone.now(), lease_expires_at=None)
    forget()
    assert purge().records == 0
    assert rows.exists()


def test_a_purge_leaves_what_runs():
    def body():
        forget()
        IdempotencyRecord.objects.update(lease_expires_at=timezone.now() - timedelta(days=1))
        return purge().records

    assert execute(body, key="key", scope="test", policy=HOLD).result == 0


def test_old_events_are_purged():
    doubt()
    assert purge().events == 0
    IdempotencyEvent.objects.update(at=timezone.now() - timedelta(days=91))
    assert purge().events == 1


def test_beat_s_purge_is_the_same():
    execute(lambda: None, key=1, scope="old")
    forget()
    purged = current_app.tasks["idempotency.purge"]()["default"]
    assert (purged["records"], purged["events"]) == (1, 0)
    assert 3600 <= purged["lag"] < 7200
    again = current_app.tasks["idempotency.purge"]()
    assert again == {"default": {"records": 0, "events": 0, "lag": None}}
    assert not IdempotencyRecord.objects.exists()


def test_a_lag_of_nothing_is_a_number_too():
    assert Purged(1, 0, timedelta(0)).as_json() == {"records": 1, "events": 0, "lag": 0.0}


def test_a_dry_run_deletes_nothing():
    execute(lambda: None, key=1, scope="old")
    forget()
    assert "Would delete 1 records and 0 events." in run("purge", "--dry-run")
    assert run_json("purge", "--dry-run")["records"] == 1
    assert IdempotencyRecord.objects.count() == 1
    assert "Deleted 1 records" in run("purge")
    assert not IdempotencyRecord.objects.exists()


# -- one key -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "typed"),
    [("order-7", "order-7"), ("7", "7"), (7, "7"), ((1, "a"), '[1, "a"]'), ("null", "null")],
)
def test_a_key_is_found_as_text_or_json(key, typed):
    execute(lambda: None, key=key, scope="test")
    assert run_json("show", typed, "--scope", "test")["record"]["scope"] == "test"


def test_a_key_is_found_in_the_scopes_of_the_project(monkeypatch):
    monkeypatch.setattr(jobs, "jobs", {})

    @idempotent(key="order_id", scope="ship")
    def ship(order_id):
        pass

    @idempotent(key="order_id", scope="bill")
    def bill(order_id):
        pass

    ship(7)
    assert run_json("show", "7")["record"]["scope"] == "ship"
    with pytest.raises(CommandError, match="No record has this key in bill, "):
        run("show", "8")
    bill(7)
    with pytest.raises(CommandError, match="2 records fit: bill, ship"):
        run("show", "7")


def test_a_hash_is_a_key_too():
    record = doubt()
    assert run_json("show", record.key_hash.hex)["record"]["state"] == "in_doubt"


def test_a_key_under_an_older_secret_is_found():
    with override_settings(IDEMPOTENCY={"KEY_SECRETS": ["old"]}):
        execute(lambda: None, key=7, scope="test")
    with override_settings(IDEMPOTENCY={"KEY_SECRETS": ["new", "old"]}):
        assert "succeeded" in run("show", "7", "--scope", "test")


def test_it_shows_what_happened_and_what_comes_next():
    record = doubt()
    park("default", record.key_hash, Reason.IN_DOUBT, task_id="task-1", message=None)
    shown = run("show", "key", "--scope", "test")
    assert "TimeoutError" in shown
    assert "message task-1  until the doubt is resolved, not kept: send it again" in shown
    assert f"says what happened: idempotency_resolve {record.key_hash.hex}\n" in shown
    assert "result " not in shown
    [parked] = run_json("show", "key", "--scope", "test")["parked"]
    assert parked["is_kept"] is False


def hide(field, text):
    return f"<{field}>"


@override_settings(IDEMPOTENCY={"REDACT": f"{__name__}.hide", "STORE_KEY": True})
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_it_shows_nothing_that_must_not_be_shown(options):
    doubt()
    shown = run("show", "key", "--scope", "test", *options)
    assert "<key>" in shown
    assert "<note>" in shown
    assert '"key"' not in shown.replace('"key":', "")
    assert "TimeoutError" not in shown.replace("builtins.TimeoutError", "")


@override_settings(TIME_ZONE="Asia/Tokyo")
def test_it_shows_what_fits_on_a_terminal_and_all_of_it_as_json():
    def body():
        raise ValueError("a\nb \x1b]0;c" + "x" * 500)

    with pytest.raises(ValueError, match="b"):
        execute(body, key=7, scope="test")
    record = IdempotencyRecord.objects.get()
    IdempotencyEvent.objects.bulk_create(
        IdempotencyEvent(kind="duplicate", key_hash=record.key_hash, scope="test", note=f"no. {n}")
        for n in range(30)
    )
    shown = run("show", "7", "--scope", "test")
    assert rf"error_message     a\nb \x1b]0;c{'x' * 191}… (509 characters)" in shown
    assert len([line for line in shown.splitlines() if line.startswith("event")]) == 21
    assert "(11 earlier ones: --json)" in shown
    assert "  no. 29\n" in shown
    assert "  no. 9\n" not in shown
    assert re.search(r"^created_at {8}\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+09:00$", shown, re.M)
    printed = run_json("show", "7", "--scope", "test")
    assert len(printed["record"]["error_message"]) == 509
    assert len(printed["events"]) == 31


def test_a_doubt_is_resolved_with_a_result():
    record = doubt()
    park("default", record.key_hash, Reason.IN_DOUBT, task_id="1", message=None)
    arguments = ("key", "--scope", "test", "--happened", "--result", '{"id": 1}', "--reason", "log")
    said = run("resolve", *arguments)
    assert said.strip() == (
        "Resolved. 0 parked messages published. 1 were not kept: send them again yourself."
    )
    assert not ParkedMessage.objects.exists()
    assert execute(lambda: None, key="key", scope="test").result == {"id": 1}
    assert "log" in IdempotencyEvent.objects.get(kind="resolved").note
    with pytest.raises(CommandError, match="is not in doubt: its record is succeeded"):
        run("resolve", *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--did-not-happen", "--result", "1", "--reason", "x"], "has no --result"),
        (["--happened", "--result", "{", "--reason", "x"], "--result is no JSON"),
        (["--happened"], "required: --reason"),
        (["--reason", "x"], "one of the arguments --happened --did-not-happen is required"),
    ],
)
def test_a_verdict_that_cannot_be_meant_changes_nothing(arguments, said):
    doubt()
    with pytest.raises(CommandError, match=said):
        run("resolve", "key", "--scope", "test", *arguments)
    assert IdempotencyRecord.objects.get().state == "in_doubt"


def test_a_rehearsed_verdict_says_what_would_be_published_and_changes_nothing():
    record = doubt()
    park("default", record.key_hash, Reason.IN_DOUBT, task_id="1", message=None)
    arguments = ("key", "--scope", "test", "--did-not-happen", "--reason", "x", "--dry-run")
    assert run("resolve", *arguments).strip() == (
        "Would resolve it. 0 parked messages would be published. "
        "1 were not kept: send them again yourself."
    )
    assert run_json("resolve", *arguments) == {
        "key_hash": record.key_hash.hex,
        "scope": "test",
        "published": 0,
        "waiting": 0,
        "not_kept": 1,
        "dry_run": True,
    }
    assert IdempotencyRecord.objects.get().state == "in_doubt"
    with pytest.raises(CommandError, match="cannot be allowed again: its record is in doubt"):
        run("allow_again", "key", "--scope", "test", "--reason", "x", "--dry-run")


def test_allowing_again_can_be_rehearsed():
    execute(lambda: None, key=7, scope="test")
    arguments = ("7", "--scope", "test", "--reason", "x")
    assert "Would allow it again. 0 parked" in run("allow_again", *arguments, "--dry-run")
    assert IdempotencyRecord.objects.get().generation == 1
    assert run_json("allow_again", *arguments)["dry_run"] is False
    assert IdempotencyRecord.objects.get().generation == 2


def test_what_did_not_happen_runs():
    doubt()
    run("resolve", "key", "--scope", "test", "--did-not-happen", "--reason", "not in the log")
    assert "The next delivery runs." in run("show", "key", "--scope", "test")


def test_a_success_is_allowed_again_and_a_doubt_is_not():
    execute(lambda: None, key=7, scope="test")
    assert "Allowed again." in run("allow_again", "7", "--scope", "test", "--reason", "asked for")
    assert IdempotencyRecord.objects.get().generation == 2
    doubt(scope="other")
    with pytest.raises(CommandError, match="cannot be allowed again: its record is in doubt"):
        run("allow_again", "key", "--scope", "other", "--reason", "asked for")


def test_no_claim_is_meant_that_came_after_the_record_was_read(monkeypatch):
    """The record was read as a transactional success, which has no claim."""
    execute(lambda: None, key="key", scope="test")
    read = IdempotencyRecord.objects.get()
    allow_again(read.key_hash, reason="by somebody else")
    monkeypatch.setattr("idempotency.management.base.KeyCommand.record", lambda *args: read)

    def refused(*command):
        with pytest.raises(CommandError, match="Nothing was changed"):
            run(*command, "key", "--reason", "?")

    def body():
        refused("release", "--force")
        raise TimeoutError

    with pytest.raises(TimeoutError):
        execute(body, key="key", scope="test", policy=HOLD)
    refused("resolve", "--did-not-happen")
    assert IdempotencyRecord.objects.get().state == "in_doubt"


# -- all of them ---------------------------------------------------------------------------------


def test_a_sweep_says_what_it_found():
    def body():
        IdempotencyRecord.objects.update(lease_expires_at=timezone.now() - timedelta(days=1))
        assert "finds a doubt: its effect had begun" in run("show", "key", "--scope", "test")
        assert run("sweep", "--dry-run").startswith("Would find 1 new doubts, ask about 0, and")
        said.append(run("sweep"))

    said = []
    execute(body, key="key", scope="test", policy=HOLD)
    assert "1 new doubts, 0 asked about, 0 resolved by it." in said[0]
    assert run_json("sweep") == {
        "doubts": 0,
        "asked": 0,
        "resolved": 0,
        "parked": {"published": 0, "waiting": 0, "not_kept": 0},
        "dry_run": False,
    }


class Terminal(io.StringIO):
    def isatty(self):
        return True


@override_settings(IDEMPOTENCY={"PURGE_BATCH": 2})
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_long_run_says_on_a_terminal_how_far_it_is(is_terminal):
    def body():
        IdempotencyRecord.objects.update(lease_expires_at=timezone.now() - timedelta(days=1))
        call_command("idempotency_sweep", stdout=io.StringIO(), stderr=errors, no_color=True)

    errors = Terminal() if is_terminal else io.StringIO()
    execute(body, key="key", scope="test", policy=HOLD)
    assert errors.getvalue() == ("\r1 seen to\n" if is_terminal else "")
    for number in range(3):
        execute(lambda: None, key=number, scope="old")
    forget(scope="old")
    call_command("idempotency_purge", stdout=io.StringIO(), stderr=errors, no_color=True)
    assert errors.getvalue().endswith("\r3 deleted\n" if is_terminal else "")


def test_statistics_count_what_needs_attention():
    doubt()
    for _ in range(2):
        execute(lambda: None, key=1, scope="sent")
    said = run("stats")
    assert "in_doubt         1, the oldest of" in said
    assert "sent: 2 deliveries in 24 h, 1 duplicates" in said
    assert run_json("stats")["states"][0]["number"] == 1


def test_an_alias_that_is_not_there_is_an_error_that_names_the_others():
    with pytest.raises(CommandError, match=r"no database alias 'nowhere'\. Known are: default"):
        run("purge", "--database", "nowhere")


@override_settings(IDEMPOTENCY={"LEASE": 10})
def test_settings_that_are_wrong_are_reported_by_the_checks_and_not_by_a_stack():
    with pytest.raises(SystemCheckError, match=r"idempotency\.E003"):
        call_command("idempotency_purge", skip_checks=False)


def test_an_operator_without_a_name_is_known_by_the_number(monkeypatch):
    def nobody():
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    execute(lambda: None, key=7, scope="test")
    run("allow_again", "7", "--scope", "test", "--reason", "asked for")
    assert IdempotencyEvent.objects.get().note == f"By uid {os.getuid()}: asked for"
