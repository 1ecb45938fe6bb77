"""An operator settles records in the admin: each with a page that asks, a reason and a guard."""

import json
import re
import uuid
from datetime import timedelta
from functools import partial
from types import SimpleNamespace

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.db import DatabaseError, connection, connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from psycopg import connect

from idempotency import Leased, OnDoubt, Verdict, execute, parking
from idempotency.admin import RecordAdmin
from idempotency.admin.settling import SettlingAdminMixin
from idempotency.digests import Digest, Key
from idempotency.exceptions import LeaseLost
from idempotency.maintenance import sweep
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage, Reason
from idempotency.parking import park
from idempotency.resolution import resolve
from idempotency.storage import storage_for
from idempotency.testing import AFTER_EFFECT, Message, let_time_pass
from tests.admin.conftest import RECORDS, as_user, said, the_record
from tests.execution.conftest import published as published
from tests.harness.processes import database_url
from tests.jobs.models import Effect
from tests.testing.jobs import charge

pytestmark = pytest.mark.django_db(transaction=True)

HOLD = Leased(on_doubt=OnDoubt.HOLD)
MARKED = Leased(on_doubt=OnDoubt.HOLD, marks_effect=True)
NAMES = ("it_happened", "it_did_not_happen", "allow_again", "release", "purge")


def doubt(key="key", scope="mails", parked=()):
    def body():
        raise TimeoutError("a secret of the customer")

    with pytest.raises(TimeoutError):
        execute(body, key=key, scope=scope, policy=HOLD)
    record = IdempotencyRecord.objects.filter(scope=scope).latest("pk")
    for message in parked:
        park("default", record.key_hash, Reason.IN_DOUBT, task_id=message, message=message)
    return record


def success(key="key", scope="shipping"):
    execute(lambda: "done", key=key, scope=scope)
    return IdempotencyRecord.objects.filter(scope=scope).latest("pk")


def running(policy=HOLD, *, lapsed):
    """What a process leaves that is killed: nobody is there to settle it."""
    record = success(key=uuid.uuid4(), scope="calls")
    now = timezone.now()
    IdempotencyRecord.objects.filter(pk=record.pk).update(
        state="running",
        policy=policy.stored,
        claim_id=uuid.uuid4(),
        claimed_at=now,
        owner="worker-7:4711",
        effect_begun_at=None if policy.marks_effect else now,
        lease_expires_at=now + timedelta(minutes=-1 if lapsed else 5),
        settled_at=None,
        result=None,
    )
    return the_record(pk=record.pk)


def forget():
    IdempotencyRecord.objects.update(expires_at=timezone.now() - timedelta(hours=1))


def the_event(kind):
    return IdempotencyEvent.objects.filter(kind=kind).latest("id").note


# -- each, from the list and from the page of a record -------------------------------------------


def test_it_happened_is_answered_from_then_on_and_what_waits_is_published(operator, published):
    record = doubt(parked=["a", "b"])
    asked = operator.choose("it_happened", record)
    assert "2 parked messages will be published" in asked.content.decode()
    assert published == []
    done = operator.confirm(asked, result='{"id": 9007199254740993}')
    assert said(done) == ["It happened: 1 record.", "2 parked messages published."]
    assert published == ["a", "b"]
    assert execute(None, key="key", scope="mails").result == {"id": 9007199254740993}
    assert the_event("resolved") == "It happened, said by ada: seen there"


def test_it_did_not_happen_runs_again(operator, published):
    record = doubt(parked=["a"])
    done = operator.confirm(operator.press("it_did_not_happen", record))
    assert done.redirect_chain[-1][0] == reverse(f"{RECORDS}_change", args=[record.pk])
    assert published == ["a"]
    assert execute(lambda: "again", key="key", scope="mails").result == "again"
    assert the_event("resolved") == "It did not happen, said by ada: seen there"


def test_allowed_again_it_has_a_new_provider_key(operator):
    record = success()
    asked = operator.press("allow_again", record)
    assert "has a new provider key" in asked.content.decode()
    operator.confirm(asked)
    again = the_record()
    assert (again.state, again.generation) == ("failed", 2)
    assert again.provider_key != record.provider_key
    assert the_event("allowed_again") == "By ada: seen there"


def test_a_dead_claim_is_released_and_judged_by_its_policy(operator):
    begun = running(lapsed=True)
    asked = operator.press("release", begun)
    assert "It will be in doubt." in asked.content.decode()
    operator.confirm(asked)
    assert the_record().state == "in_doubt"
    IdempotencyRecord.objects.all().delete()
    asked = operator.press("release", running(MARKED, lapsed=True))
    assert "will be in doubt" not in asked.content.decode()
    operator.confirm(asked)
    assert the_record().state == "failed"
    assert the_event("released") == "By ada: seen there"


def test_a_live_lease_is_released_only_by_who_says_that_they_know_the_risk(operator):
    record = running(lapsed=False)
    asked = operator.press("release", record)
    page = asked.content.decode()
    assert "it may still send, charge or call, while the next attempt does the same" in page
    done = operator.confirm(asked)
    assert said(done) == ["1 record skipped: the lease is alive, or somebody holds the key."]
    assert the_record().claim_id == record.claim_id
    operator.confirm(asked, force="on")
    assert the_record().state == "in_doubt"
    assert the_record().claim_id != record.claim_id


def test_a_lease_that_was_renewed_after_it_was_shown_as_dead_is_not_forced(operator):
    record = running(lapsed=True)
    asked = operator.press("release", record)
    alive = timezone.now() + timedelta(minutes=5)
    IdempotencyRecord.objects.update(lease_expires_at=alive)
    assert "the lease is alive" in said(operator.confirm(asked, force="on"))[0]
    assert the_record().state == "running"


def test_force_is_offered_only_where_it_does_something(operator):
    force = 'name="force"'
    dead, alive = running(lapsed=True), running(lapsed=False)
    assert force not in operator.press("release", dead).content.decode()
    assert (
        force not in operator.confirm(operator.press("release", dead), reason="").content.decode()
    )
    assert force in operator.choose("release", dead, alive).content.decode()


def test_only_what_is_forgotten_is_purged(operator):
    for number in range(3):
        success(key=number)
    forget()
    fresh, uncertain = success(key="fresh"), doubt()
    asked = operator.choose("purge", *IdempotencyRecord.objects.all())
    page = asked.content.decode()
    assert "3 records; 2 more were selected and are left as they are" in page
    assert IdempotencyRecord.objects.count() == 5
    done = operator.confirm(asked, reason="of the load test")
    assert said(done) == ["Purge: 3 records."]
    assert set(IdempotencyRecord.objects.all()) == {fresh, uncertain}
    assert LogEntry.objects.filter(action_flag=DELETION).count() == 3
    assert the_event("purged") == "By ada: of the load test"


def test_buttons_are_those_that_fit_the_record(operator):
    def buttons(record):
        return re.findall(r"/settle/(\w+)/", operator.detail(record))

    assert buttons(success()) == ["allow_again"]
    assert buttons(doubt()) == ["it_happened", "it_did_not_happen"]
    assert buttons(running(MARKED, lapsed=False)) == ["release"]
    silent = running(lapsed=True)
    assert buttons(silent) == ["it_happened", "it_did_not_happen", "release"]
    IdempotencyRecord.objects.exclude(pk=silent.pk).delete()
    IdempotencyRecord.objects.update(
        state="failed", effect_begun_at=None, settled_at=timezone.now(), lease_expires_at=None
    )
    forget()
    assert buttons(the_record()) == ["allow_again", "purge"]


# -- who may -------------------------------------------------------------------------------------


def test_who_may_only_look_changes_nothing_and_is_shown_no_way_to():
    somebody = as_user("view", "change")
    record = doubt()
    assert "/settle/" not in somebody.detail(record)
    listed = somebody.client.get(reverse(f"{RECORDS}_changelist")).content.decode()
    for name in NAMES:
        assert f'value="{name}"' not in listed
        assert somebody.choose(name, record).status_code == 403
        assert somebody.press(name, record).status_code == 403
        address = reverse(f"{RECORDS}_settle", args=[name])
        assert somebody.client.post(address, {"seen": "x", "reason": "y"}).status_code == 403
    assert IdempotencyRecord.objects.values().get() == values_of(record)


def values_of(record):
    return {field.name: getattr(record, field.name) for field in record._meta.fields}


@pytest.mark.parametrize(
    ("permission", "names"),
    [
        ("resolve", {"it_happened", "it_did_not_happen"}),
        ("release", {"release"}),
        ("allow_again", {"allow_again"}),
        ("purge", {"purge"}),
        ("change", set()),
    ],
)
def test_each_permission_allows_its_own_and_nothing_else(permission, names):
    somebody = as_user("view", permission)
    record = doubt()
    allowed = {name for name in NAMES if somebody.press(name, record).status_code == 200}
    assert allowed == names
    assert {name for name in NAMES if somebody.choose(name, record).status_code != 403} == names


def test_who_may_not_look_may_do_nothing():
    blind = as_user("resolve")
    refused = blind.press("it_happened", doubt())
    assert refused.status_code == 403
    assert refused.redirect_chain == [], "it is refused by the page itself"
    stranger = Client().post(reverse(f"{RECORDS}_settle", args=["it_happened"]))
    assert stranger.status_code == 302
    assert "/login/" in stranger.url


def test_a_post_of_another_site_is_refused(operator):
    record = doubt()
    page = operator.press("it_happened", record)
    client = Client(enforce_csrf_checks=True)
    client.cookies = operator.client.cookies
    operator.client = client
    assert operator.confirm(page, csrfmiddlewaretoken="").status_code == 403
    assert the_record().state == "in_doubt"
    assert said(operator.confirm(page)) == ["It happened: 1 record."]


@pytest.mark.parametrize("seen", ["", "x", "{}:y"])
def test_what_the_page_did_not_write_is_not_read(operator, seen):
    doubt()
    address = reverse(f"{RECORDS}_settle", args=["it_happened"])
    done = operator.client.post(address, {"seen": seen, "reason": "?"}, follow=True)
    assert "Nothing was changed" in said(done)[0]
    assert the_record().state == "in_doubt"


def test_a_page_that_asks_for_one_is_not_taken_for_another(operator):
    asked = operator.choose("it_happened", doubt())
    asked.content = asked.content.replace(b"/settle/it_happened/", b"/settle/it_did_not_happen/")
    assert "Nothing was changed" in said(operator.confirm(asked))[0]
    assert the_record().state == "in_doubt"


def test_an_address_without_a_page_leads_to_the_list(operator):
    got = operator.client.get(reverse(f"{RECORDS}_settle", args=["purge"]))
    assert (got.status_code, got.url) == (302, reverse(f"{RECORDS}_changelist"))
    assert operator.client.get(reverse(f"{RECORDS}_settle", args=["x"])).status_code == 404


# -- why -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "a\0b"])
def test_nothing_is_done_without_a_reason_that_can_be_kept(operator, reason):
    refused = operator.confirm(operator.press("it_happened", doubt()), reason=reason)
    assert "Error:" in refused.content.decode()
    assert the_record().state == "in_doubt"
    operator.confirm(refused, reason="  seen there ")
    assert the_event("resolved") == "It happened, said by ada: seen there"


@pytest.mark.parametrize("result", ["ch_1", "[" * 100_000, "9" * 5000, '"' + "x" * 300_000 + '"'])
def test_a_result_that_cannot_be_stored_is_said_on_the_page(operator, result):
    refused = operator.confirm(operator.press("it_happened", doubt()), result=result)
    assert "Error:" in refused.content.decode()
    assert the_record().state == "in_doubt"


def test_the_reason_is_in_the_history_of_the_record(operator):
    record = doubt()
    operator.confirm(operator.press("it_happened", record), reason="<b>seen</b> there")
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.action_flag) == ("ada", CHANGE)
    assert entry.object_id == str(record.pk)
    address = reverse(f"{RECORDS}_history", args=[record.pk])
    history = operator.client.get(address).content.decode()
    assert "It happened: &lt;b&gt;seen&lt;/b&gt; there" in history


def test_what_is_settled_is_not_said_to_have_failed_for_want_of_a_history(operator, monkeypatch):
    def log_actions(*args, **kwargs):
        raise DatabaseError("full")

    monkeypatch.setattr(LogEntry.objects, "log_actions", log_actions)
    done = operator.confirm(operator.press("it_happened", doubt()))
    assert said(done) == [
        "It happened: 1 record.",
        "The history of 1 record lacks this, for an error that is in the log. The events have it.",
    ]
    assert the_record().state == "succeeded"


def hide(field, text):
    return f"<{field} hidden>"


def test_what_must_not_be_shown_is_not_shown(operator, settings):
    settings.IDEMPOTENCY = {"REDACT": f"{__name__}.hide", "STORE_KEY": True}
    record = doubt(key="a secret key", scope="<script>alert(1)</script>", parked=["an argument"])
    page = operator.press("it_happened", record).content.decode()
    for secret in ("<script>alert", "a secret key", "an argument", "secret of the customer"):
        assert secret not in page
    assert "&lt;script&gt;alert" in page
    operator.confirm(operator.press("it_happened", record), reason="card 4711")
    assert LogEntry.objects.get().get_change_message() == "It happened: <note hidden>"


# -- many ----------------------------------------------------------------------------------------


def test_many_are_settled_each_by_itself_and_the_message_counts(operator, published):
    records = [doubt(key=number, parked=[f"m{number}"]) for number in range(3)]
    asked = operator.choose("it_happened", success(), *records)
    page = asked.content.decode()
    assert "3 records; 1 more was selected and is left as it is: not in doubt" in page
    resolve(records[1].key_hash, Verdict.did_not_happen(), reason="seen")
    assert said(operator.confirm(asked)) == [
        "It happened: 2 records.",
        "1 record skipped: changed meanwhile, or held: not in doubt any more, or another doubt.",
        "2 parked messages published.",
    ]
    assert LogEntry.objects.count() == 2


@pytest.mark.parametrize(
    ("name", "make", "meanwhile"),
    [
        ("it_happened", doubt, {"claim_id": uuid.uuid4()}),
        ("allow_again", success, {"attempt": 2}),
        ("release", partial(running, lapsed=True), {"claim_id": uuid.uuid4()}),
        ("release", partial(running, lapsed=True), {"lease_expires_at": "2100-01-01T00:00Z"}),
    ],
)
def test_what_is_not_fit_any_more_is_skipped_and_is_no_failure(
    operator, caplog, name, make, meanwhile
):
    asked = operator.press(name, make())
    IdempotencyRecord.objects.update(**meanwhile)
    caplog.clear()
    assert said(operator.confirm(asked))[0].startswith("1 record skipped: ")
    assert [record.message for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize(
    ("name", "make", "left"),
    [("it_happened", doubt, "in_doubt"), ("purge", success, "succeeded")],
)
def test_one_broken_record_does_not_stop_the_rest(operator, name, make, left):
    records = [make(key=1), make(key=2, scope="broken"), make(key=3)]
    if name == "purge":
        forget()
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'broken'; END $$;"
            "CREATE TRIGGER broken BEFORE UPDATE OR DELETE ON idempotency_record FOR EACH ROW "
            "WHEN (OLD.scope = 'broken') EXECUTE FUNCTION broken()"
        )
    try:
        done = operator.confirm(operator.choose(name, *records))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION broken CASCADE")
    assert said(done)[0].endswith(": 2 records.")
    assert said(done)[1].startswith("1 record failed with ")
    assert the_record(state=left).scope == "broken"
    assert LogEntry.objects.count() == 2


def test_more_than_so_many_are_refused_also_across_all_pages(operator, monkeypatch):
    assert SettlingAdminMixin.bulk_limit == 1000
    monkeypatch.setattr(SettlingAdminMixin, "bulk_limit", 2)
    records = [doubt(key=number) for number in range(3)]
    for more in ({}, {"select_across": "1"}):
        refused = operator.choose("it_happened", *records, **more)
        assert refused.status_code == 302
        answer = operator.client.get(refused.url)
        assert "Narrow the filter, or use the commands" in said(answer)[0]
    across = operator.choose("it_happened", records[0], select_across="1")
    assert across.status_code == 302
    assert operator.choose("it_happened", *records[:2]).status_code == 200
    assert IdempotencyRecord.objects.filter(state="in_doubt").count() == 3


def test_a_thousand_are_settled_at_once(operator):
    success()
    [columns] = IdempotencyRecord.objects.values()
    del columns["id"]
    IdempotencyRecord.objects.bulk_create(
        IdempotencyRecord(**columns | {"key_hash": f"{number:032x}"}) for number in range(999)
    )
    forget()
    first = IdempotencyRecord.objects.first()
    asked = operator.choose("purge", first, select_across="1")
    assert "and 980 more" in asked.content.decode()
    assert said(operator.confirm(asked)) == ["Purge: 1,000 records."]
    assert not IdempotencyRecord.objects.exists()


def test_one_is_led_back_to_the_list_as_it_was_filtered(operator):
    record = doubt()
    listed = f"{reverse(f'{RECORDS}_changelist')}?state__exact=in_doubt"
    chosen = {"action": "it_happened", "_selected_action": [record.pk]}
    asked = operator.client.post(listed, chosen)
    done = operator.confirm(asked)
    assert done.redirect_chain[-1][0] == listed


@pytest.mark.parametrize("name", ["it_happened", "release"])
def test_a_page_asks_the_database_as_often_for_many_as_for_one(
    operator, name, django_assert_max_num_queries
):
    if name == "release":
        records = [running(lapsed=number % 2) for number in range(15)]
    else:
        records = [doubt(key=number, parked=[f"m{number}"]) for number in range(15)]
    counts = []
    operator.choose(name, records[0])  # what is cached from then on
    for chosen in (records[:1], records):
        with django_assert_max_num_queries(30) as captured:
            assert operator.choose(name, *chosen).status_code == 200
        counts.append(len(captured))
    assert counts[0] == counts[1]


# -- meanwhile -----------------------------------------------------------------------------------


def test_its_own_attempt_that_has_come_back_is_not_overruled(operator):
    """The lease ran out, an operator looks, and the attempt comes back and knows."""
    pages = []

    def body():
        IdempotencyRecord.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
        pages.append(operator.choose("it_did_not_happen", the_record()))
        return "sent"

    execute(body, key="key", scope="mails", policy=HOLD)
    [skipped] = said(operator.confirm(pages[0]))
    assert "skipped: changed meanwhile" in skipped
    assert the_record().state == "succeeded"


def test_an_attempt_whose_claim_was_released_settles_nothing(operator):
    def body():
        operator.confirm(operator.press("release", the_record()), force="on")
        return "sent"

    with pytest.raises(LeaseLost):
        execute(body, key="key", scope="mails", policy=HOLD)
    record = the_record()
    assert (record.state, record.result) == ("in_doubt", None)


def test_what_was_allowed_again_by_another_is_not_allowed_once_more(operator):
    asked = operator.press("allow_again", success())
    operator.confirm(asked)
    assert "skipped: changed meanwhile" in said(operator.confirm(asked))[0]
    assert the_record().generation == 2


def test_a_later_doubt_is_not_resolved_by_an_earlier_page(operator):
    asked = operator.choose("it_happened", doubt())
    resolve(the_record().key_hash, Verdict.did_not_happen(), reason="seen")
    doubt()
    assert "skipped: changed meanwhile" in said(operator.confirm(asked))[0]
    assert the_record().state == "in_doubt"


def test_what_a_user_may_not_see_is_neither_shown_nor_settled(operator, monkeypatch):
    """A page that somebody else was shown, whose list is longer."""
    asked = operator.choose("it_happened", doubt(scope="another tenant's"))
    monkeypatch.setattr(
        SettlingAdminMixin,
        "get_queryset",
        lambda self, request: IdempotencyRecord.objects.exclude(scope="another tenant's"),
        raising=False,
    )
    assert "another tenant" not in operator.confirm(asked, reason="").content.decode()
    assert said(operator.confirm(asked)) == ["1 record skipped: not there any more."]
    assert the_record().state == "in_doubt"


def test_what_a_user_may_not_see_by_itself_is_neither_shown_nor_settled(operator, monkeypatch):
    asked = operator.choose("it_happened", doubt(scope="another tenant's"), doubt(scope="ours"))
    may_view = RecordAdmin.has_view_permission

    def has_view_permission(self, request, obj=None):
        return may_view(self, request) and (obj is None or obj.scope == "ours")

    monkeypatch.setattr(RecordAdmin, "has_view_permission", has_view_permission)
    assert "another tenant" not in operator.confirm(asked, reason="").content.decode()
    assert said(operator.confirm(asked)) == [
        "It happened: 1 record.",
        "1 record skipped: not there any more.",
    ]
    assert the_record(scope="another tenant's").state == "in_doubt"


def failed(scope="payments"):
    """What a provider refused that would have known a repeat: its effect had begun."""
    policy = Leased(on_doubt=OnDoubt.RETRY, provider_window=timedelta(hours=1))

    def body():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        execute(body, key="key", scope=scope, policy=policy)
    return the_record(scope=scope)


def exhaust(record):
    seen = storage_for("default").peek(Key("", (Digest(record.key_hash, None),), "")).seen
    assert IdempotencyRecord.objects.exhaust(seen, retention=timedelta(days=1))


def doubt_that_ended_as_a_failure(record):
    """Its window ended, the sweeper found it, and somebody has settled it."""
    rows = IdempotencyRecord.objects.filter(pk=record.pk)
    rows.update(repeat_until=timezone.now())
    sweep()
    resolve(record.key_hash, Verdict.did_not_happen(), reason="seen")


def test_what_failed_is_resolved_once_the_provider_knows_no_repeat(operator):
    record = failed()
    assert "nothing to do" in said(operator.press("it_happened", record))[0]
    IdempotencyRecord.objects.update(repeat_until=timezone.now())
    asked = operator.press("it_happened", record)
    assert said(operator.confirm(asked, result='"done"')) == ["It happened: 1 record."]
    assert execute(None, key="key", scope="payments").result == "done"


@pytest.mark.parametrize("meanwhile", [exhaust, doubt_that_ended_as_a_failure])
def test_what_failed_otherwise_meanwhile_is_not_allowed_again(operator, meanwhile):
    record = failed()
    asked = operator.press("allow_again", record)
    meanwhile(record)
    assert the_record().state == "failed"
    assert the_record().claim_id == record.claim_id
    assert "skipped: changed meanwhile" in said(operator.confirm(asked))[0]
    assert the_record().generation == 1


def test_a_record_that_is_gone_is_said_to_be(operator):
    asked = operator.choose("it_happened", doubt())
    IdempotencyRecord.objects.all().delete()
    assert said(operator.confirm(asked)) == ["1 record skipped: not there any more."]


def test_a_doubt_that_a_killed_process_has_left_is_resolved(operator, published):
    message = Message(charge, 7)
    message.die(AFTER_EFFECT)
    assert Effect.objects.count() == 1
    let_time_pass(timedelta(days=1))
    assert message.deliver().parked
    assert the_record().state == "in_doubt"
    operator.confirm(operator.press("it_happened", the_record()), result='"effect of 7"')
    assert json.loads(published[0])["args"] == [7]
    assert message.deliver().result == "effect of 7"
    assert Effect.objects.count() == 1


# -- publishing ----------------------------------------------------------------------------------


@pytest.fixture
def atomic_requests(monkeypatch):
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)


def committed_state():
    with connect(database_url(), autocommit=True) as observer:
        [(state,)] = observer.execute("SELECT state FROM idempotency_record")
    return state


@pytest.mark.parametrize("name", ["it_happened", "it_did_not_happen", "allow_again", "release"])
def test_each_is_committed_before_anything_is_published(
    operator, monkeypatch, atomic_requests, name
):
    states = []
    broker = SimpleNamespace(publish=lambda message: states.append(committed_state()))
    monkeypatch.setattr(parking, "broker", broker)
    if name == "release":
        record = running(MARKED, lapsed=True)
    else:
        record = success() if name == "allow_again" else doubt()
    ParkedMessage.objects.create(
        key_hash=record.key_hash, task_id="a", reason=Reason.GAVE_UP, message="a"
    )
    operator.confirm(operator.press(name, record))
    assert states == ["succeeded" if name == "it_happened" else "failed"]
    assert LogEntry.objects.count() == 1


def test_a_purge_is_committed_under_atomic_requests(operator, atomic_requests):
    success()
    forget()
    operator.confirm(operator.choose("purge", the_record()))
    assert not IdempotencyRecord.objects.exists()


def test_a_broker_that_is_down_keeps_no_doubt_from_being_resolved(operator, monkeypatch):
    asked_of_the_broker = []

    def publish(message):
        asked_of_the_broker.append(message)
        raise ConnectionError("refused")

    monkeypatch.setattr(parking, "broker", SimpleNamespace(publish=publish))
    records = [doubt(key=number, parked=[f"m{number}"]) for number in range(3)]
    done = operator.confirm(operator.choose("it_happened", *records))
    assert said(done)[0] == "It happened: 3 records."
    assert "3 parked messages not published" in said(done)[1]
    assert "the sweeper publishes them" in said(done)[1]
    assert ParkedMessage.objects.count() == 3
    assert len(asked_of_the_broker) == 1  # the others would wait as long


def test_what_has_to_be_sent_again_by_hand_is_said_first(operator, published):
    record = doubt()
    page = operator.press("it_did_not_happen", record).content.decode()
    first = page.index("Send it again yourself")
    assert first < page.index("The doubt ends")
    park("default", record.key_hash, Reason.IN_DOUBT, task_id="a", message=None)
    asked = operator.press("it_did_not_happen", record)
    assert "1 of the messages that wait was not kept" in asked.content.decode()
    assert "1 message not kept: send it again yourself." in said(operator.confirm(asked))


# -- the page ------------------------------------------------------------------------------------


def test_the_page_needs_no_script_and_is_filled_in_by_keyboard(operator):
    page = operator.press("release", running(lapsed=False)).content.decode()
    content = page[page.index('id="content-main"') :]
    assert "<script" not in content
    assert not re.search(r"\sstyle=|\son\w+=|<style", content)
    assert re.search(r'<input[^>]*name="reason"[^>]*autofocus', content)
    assert re.search(r'<input[^>]*name="reason"[^>]*required', content)
    for name in ("reason", "force"):
        assert re.search(f'<label[^>]*for="id_{name}"', content)
