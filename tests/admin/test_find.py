"""A record is found by whatever an operator has in hand."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.test import override_settings

from idempotency import execute, jobs
from idempotency.admin import search
from idempotency.backlog import parked as parked_messages
from idempotency.backlog import waiting
from idempotency.digests import digest
from idempotency.lookup import hash_range
from idempotency.models import IdempotencyRecord
from tests.admin.pages import listed, page
from tests.admin.records import ago, event, made, night, parked

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _two_jobs(monkeypatch):
    monkeypatch.setattr(jobs, "all_jobs", lambda: {"shop.ship": None, "shop.bill": None})


def keyed(value, scope="shop.ship", **columns):
    [key_hash] = digest(value, scope=scope).hashes
    return made(scope=scope, key_hash=key_hash, **columns).pk


@pytest.mark.parametrize("value", [7, "order-7", [1, 7], "8 of 9: x"])
def test_by_its_key_in_all_scopes_of_the_project(admin_client, value):
    keyed("another")
    found = {keyed(value), keyed(value, scope="shop.bill")}
    typed = value if isinstance(value, str) else str(value)
    assert listed(admin_client, q=f"  {typed} ") == found


def test_by_its_key_in_a_scope_that_only_execute_was_given(admin_client):
    execute(int, key="evt_1", scope="stripe: webhook")
    execute(int, key="evt_1", scope="other")
    wanted = IdempotencyRecord.objects.get(scope="other").pk
    assert listed(admin_client, q="other: evt_1") == {wanted}
    assert listed(admin_client, q="evt_1") == set()


def test_by_a_key_under_an_older_secret(admin_client):
    with override_settings(IDEMPOTENCY={"KEY_SECRETS": ["old"]}):
        execute(int, key=7, scope="shop.ship")
    with override_settings(IDEMPOTENCY={"KEY_SECRETS": ["new", "old"]}):
        assert len(listed(admin_client, q="7")) == 1


def test_by_the_hash_and_by_its_first_digits(admin_client):
    record, _ = made(), made()
    digits = record.key_hash.hex
    for typed in (digits, str(record.key_hash), digits[:8], f"{digits[:8]}…", digits[:16].upper()):
        assert listed(admin_client, q=typed) == {record.pk}, typed
    for typed in (digits[:7], digits[::-1], f"{digits}0", "no hash"):
        assert listed(admin_client, q=typed) == set(), typed


def test_digits_are_a_range_that_an_index_serves():
    first, last = hash_range("abcdef01")
    assert (first.hex, last.hex) == ("abcdef01" + "0" * 24, "abcdef01" + "f" * 24)
    assert hash_range("abcdef0") is None


@pytest.mark.parametrize("state", ["failed", "running", "in_doubt"])
def test_by_the_task_id_whatever_has_not_succeeded(admin_client, monkeypatch, state):
    monkeypatch.setattr(search, "NEWEST", 1)
    wanted, _ = made(state, task_id="5f0e"), [made() for _ in range(3)]
    assert listed(admin_client, q="5f0e") == {wanted.pk}


def test_by_the_task_id_a_failure_among_the_newest_failures_only(admin_client, monkeypatch):
    monkeypatch.setattr(search, "NEWEST", 1)
    monkeypatch.setattr(search, "OF_STATE", 2)
    wanted = made("failed", task_id="5f0e").pk
    made("failed")
    assert listed(admin_client, q="5f0e") == {wanted}
    made("failed")
    assert listed(admin_client, q="5f0e") == set()
    said = "A task id is looked for among the newest records and events only."
    assert said in page(admin_client, "idempotencyrecord_changelist", q="5f0e")
    assert said not in page(admin_client, "idempotencyrecord_changelist")


def test_by_the_task_id_a_success_among_the_newest_only(admin_client, monkeypatch):
    wanted = made(task_id="5f0e").pk
    assert listed(admin_client, q="5f0e") == {wanted}
    monkeypatch.setattr(search, "NEWEST", 1)
    made()
    assert listed(admin_client, q="5f0e") == set()


def test_by_the_task_id_where_that_is_the_key(admin_client, monkeypatch):
    monkeypatch.setattr(search, "NEWEST", 1)
    wanted, _ = keyed(("5f0e", 0)), made()
    assert listed(admin_client, q="5f0e") == {wanted}


def test_by_the_task_id_of_a_duplicate_or_of_a_message_that_waits(admin_client):
    answered, waited_for = made(task_id="first"), made("in_doubt", task_id="second")
    event(answered, "duplicate", task_id="third")
    parked(waited_for, task_id="fourth")
    assert listed(admin_client, q="third") == {answered.pk}
    assert listed(admin_client, q="fourth") == {waited_for.pk}


def test_events_and_messages_are_found_like_records(admin_client):
    execute(int, key="evt_1", scope="shop.ship")
    record = IdempotencyRecord.objects.get()
    event(record, "duplicate", note="this one")
    event(made(), "duplicate", note="another")
    parked(record, task_id="waits")
    for typed in ("evt_1", "shop.ship: evt_1", record.key_hash.hex[:8]):
        events = page(admin_client, "idempotencyevent_changelist", q=typed)
        assert "this one" in events
        assert "another" not in events
        assert "waits" in page(admin_client, "parkedmessage_changelist", q=typed)


def test_a_search_goes_on_when_a_module_of_tasks_is_broken(admin_client, monkeypatch, caplog):
    def broken():
        raise ZeroDivisionError

    monkeypatch.setattr(jobs, "all_jobs", broken)
    monkeypatch.setattr(jobs, "jobs", {"shop.ship": None})
    wanted = keyed(7)
    assert listed(admin_client, q="7") == {wanted}
    assert "cannot be imported" in caplog.text


def test_each_filter_is_an_address_that_can_be_shared(admin_client):
    rows = {
        "in_doubt": made("in_doubt"),
        "running": made("running"),
        "lapsed": made("running", lease_expires_at=ago(seconds=1)),
        "exhausted": made("failed", exhausted_at=ago(minutes=1)),
        "failed": made("failed"),
        "succeeded": made(),
    }
    for state, row in rows.items():
        assert listed(admin_client, state=state) == {row.pk}, state
    everything = {row.pk for row in rows.values()}
    assert listed(admin_client, state="none such") == everything
    billed, old = made(scope="shop.bill"), made(created_at=ago(hours=30))
    assert listed(admin_client, scope="shop.bill") == {billed.pk}
    assert listed(admin_client, scope="unknown to the project") == set()
    assert old.pk not in listed(admin_client, age="24h")
    assert old.pk in listed(admin_client, age="7d")
    assert listed(admin_client, age="1h") == everything | {billed.pk}
    again, last = made(attempt=2), made(expires_at=ago(hours=-23))
    assert listed(admin_client, attempts="many") == {again.pk}
    assert listed(admin_client, expires="soon") == {last.pk}
    assert "among the oldest" not in page(
        admin_client, "idempotencyrecord_changelist", expires="whenever"
    )
    assert listed(admin_client, state="succeeded", attempts="many") == {again.pk}


def test_a_filter_looks_through_a_window_and_the_page_says_so(admin_client, monkeypatch):
    monkeypatch.setattr("idempotency.admin.base.BoundedChangeList.WINDOW", 2)
    far = {state: made(state, scope="shop.bill") for state in ("succeeded", "failed")}
    near = [made(scope="shop.bill").pk for _ in range(2)]
    assert listed(admin_client, scope="shop.bill") == set(near)
    assert listed(admin_client, scope="shop.bill", state="failed") == {far["failed"].pk}
    limit = "looked for among the newest 2 ids"
    assert limit in page(admin_client, "idempotencyrecord_changelist", scope="shop.bill")
    assert limit not in page(admin_client, "idempotencyrecord_changelist", state="failed")
    assert limit not in page(admin_client, "idempotencyrecord_changelist")


@pytest.mark.parametrize("more", [{}, {"expires": "soon"}], ids=["newest", "oldest"])
def test_two_filters_look_through_a_part_of_a_state_and_the_page_says_so(
    admin_client, monkeypatch, more
):
    monkeypatch.setattr("idempotency.admin.base.BoundedChangeList.OF_STATE", 2)
    made("running", scope="shop.bill")
    soon = [made("failed", scope="shop.bill", expires_at=ago(hours=-1)).pk for _ in range(3)]
    query = {"state": "failed", "scope": "shop.bill"} | more
    found = soon[:2] if more else soon[1:]
    assert listed(admin_client, **query) == set(found)
    said = f"looked for among the {'oldest' if more else 'newest'} 2 of it"
    assert said in page(admin_client, "idempotencyrecord_changelist", **query)
    few = {"state": "running", "scope": "shop.bill"}
    assert "looked for" not in page(admin_client, "idempotencyrecord_changelist", **few)


def test_a_scope_that_no_record_can_have_finds_none(admin_client):
    made()
    assert listed(admin_client, scope="\0") == set()


@pytest.mark.parametrize("state", ["bogus", "", ["failed", "succeeded"], ["failed", "bogus"]])
def test_a_state_that_narrows_nothing_has_the_window_too(admin_client, monkeypatch, state):
    monkeypatch.setattr("idempotency.admin.base.BoundedChangeList.WINDOW", 1)
    records = [made(), made()]
    assert listed(admin_client, state=state, scope="shop.ship") == {records[1].pk}


def test_what_is_forgotten_soon_is_looked_for_among_the_oldest(admin_client, monkeypatch):
    monkeypatch.setattr("idempotency.admin.base.BoundedChangeList.WINDOW", 2)
    oldest, *_ = [made(expires_at=ago(hours=-23)).pk for _ in range(4)]
    # As purges leave them: one that nobody may purge, and then a gap.
    IdempotencyRecord.objects.exclude(pk=oldest).update(id=F("id") + 1000)
    found = listed(admin_client, expires="soon")
    assert oldest in found
    assert len(found) == 2
    shown = page(admin_client, "idempotencyrecord_changelist", expires="soon")
    assert "looked for among the oldest 2 ids" in shown


def test_pages_end_where_nobody_turns_them(admin_client, monkeypatch):
    monkeypatch.setattr("idempotency.admin.base.CappedPaginator.CAP", 60)
    for _ in range(61):
        made()
    shown = page(admin_client, "idempotencyrecord_changelist")
    assert "pages end after 60" in shown
    assert "pages end" not in page(admin_client, "idempotencyrecord_changelist", state="failed")


def test_what_needs_attention_is_seen_first(admin_client):
    night()
    shown = " ".join(page(admin_client, "idempotencyrecord_changelist").split())
    for said, address in {
        "▲</span> 1 in doubt": "?state=in_doubt",
        "◇</span> 1 lease has run out": "?state=lapsed",
        "◆</span> 1 exhausted": "?state=exhausted",
        "■</span> 3 failed": "?state=failed",
        "■</span> 2 given up": "parkedmessage/?reason__exact=gave_up",
        "▪</span> 2 parked messages": "parkedmessage/",
    }.items():
        before, found, _ = shown.partition(said)
        assert found, said
        assert address in before.rpartition("<a href=")[2], said
    assert shown.index("52 min ago") < shown.index("changelist-search")


def test_a_lock_that_is_held_for_long_leads_to_its_record(admin_client, monkeypatch):
    record = made()
    number = int.from_bytes(record.key_hash.bytes[:8], signed=True)
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT pg_advisory_xact_lock(%s), pg_backend_pid()", [number])
            [(_, pid)] = cursor.fetchall()
            assert "lock held" not in page(admin_client, "idempotencyrecord_changelist")
            monkeypatch.setattr("idempotency.admin.attention.LONG", timedelta(0))
            shown = page(admin_client, "idempotencyrecord_changelist")
            assert f"lock held by pid {pid}" in shown
            assert f"?q={record.key_hash.hex[:16]}" in shown
            assert listed(admin_client, q=record.key_hash.hex[:16]) == {record.pk}
    finally:
        other.close()
    assert "lock held" not in page(admin_client, "idempotencyrecord_changelist")


def test_a_quiet_night_is_said_to_be_one(admin_client):
    made()
    shown = page(admin_client, "idempotencyrecord_changelist")
    assert "Nothing needs attention." in shown


@pytest.mark.parametrize(("state", "word"), [("failed", "failed"), ("in_doubt", "in doubt")])
def test_a_count_that_is_cut_says_so_and_knows_the_oldest(admin_client, monkeypatch, state, word):
    monkeypatch.setattr("idempotency.backlog.CAP", 2)
    for hours in (5, 4, 3, 2):
        made(state, created_at=ago(hours=hours), effect_begun_at=ago(hours=hours))
    shown = " ".join(page(admin_client, "idempotencyrecord_changelist").split())
    said, _, _ = shown.partition(f"2+ {word}")[2].partition("</li>")
    assert "5 h ago" in said


def test_each_reason_is_told_however_many_messages_wait_for_another(admin_client, monkeypatch):
    monkeypatch.setattr("idempotency.backlog.CAP", 2)
    for reason, number in {"in_doubt": 3, "gave_up": 1}.items():
        for _ in range(number):
            parked(made("failed"), reason)
    told = parked_messages("default")
    assert {name: each.number for name, each in told.items()} == {
        "in_doubt": 2,
        "gave_up": 1,
        "exhausted": 0,
    }
    shown = page(admin_client, "idempotencyrecord_changelist")
    assert "given up" in shown
    assert "2+ parked messages" in shown


def test_a_lease_that_has_run_out_is_told_however_many_are_running(admin_client, monkeypatch):
    monkeypatch.setattr("idempotency.backlog.CAP", 2)
    for _ in range(3):
        made("running")
    made("running", lease_expires_at=ago(minutes=2))
    assert "1 lease has run out" in page(admin_client, "idempotencyrecord_changelist")


def test_the_exhausted_are_told_however_many_have_only_failed(admin_client, monkeypatch):
    monkeypatch.setattr("idempotency.backlog.CAP", 2)
    for _ in range(3):
        made("failed")
    made("failed", exhausted_at=ago(minutes=1))
    shown = page(admin_client, "idempotencyrecord_changelist")
    assert "1 exhausted" in shown
    assert "2+ failed" in shown


def test_what_failed_is_counted_behind_all_that_is_exhausted(monkeypatch):
    monkeypatch.setattr("idempotency.backlog.CAP", 5)
    exhausted = [made("failed", exhausted_at=ago(minutes=1)) for _ in range(4)]
    for _ in range(5):
        made("failed")
    told = waiting("default")["failed"]
    assert (told.number, told.is_cut) == (5, False)
    made("failed")
    told = waiting("default")["failed"]
    assert (told.number, told.is_cut) == (5, True)
    # Of what is exhausted itself there is more than is counted.
    IdempotencyRecord.objects.filter(exhausted_at=None).delete()
    for _ in range(2):
        made("failed", exhausted_at=ago(minutes=1))
    told = waiting("default")["failed"]
    assert (told.number, told.oldest, told.is_cut) == (0, None, False)
    made("failed")
    assert waiting("default")["failed"].is_cut
    exhausted[0].delete()
    told = waiting("default")["failed"]
    assert (told.number, told.is_cut) == (1, False)


def test_what_is_exhausted_is_not_counted_as_failed_too(admin_client):
    made("failed", exhausted_at=ago(minutes=1))
    assert "1 failed" not in page(admin_client, "idempotencyrecord_changelist")
    made("failed")
    assert "1 failed" in page(admin_client, "idempotencyrecord_changelist")
