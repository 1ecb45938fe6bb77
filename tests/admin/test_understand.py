"""One page tells what happened to a key, what waits for it and what comes next; and only tells."""

import io
import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import override_settings
from django.urls import path, reverse
from django.utils import timezone

from idempotency import execute
from idempotency.admin import RecordAdminMixin
from idempotency.admin import story as stories
from idempotency.admin.display import LENGTH
from idempotency.models import IdempotencyRecord, ParkedMessage
from tests.admin.pages import page, shown
from tests.admin.records import HOSTILE, ago, event, made, night, parked

pytestmark = pytest.mark.django_db


def told(record, *events):
    record = IdempotencyRecord.objects.with_clock().get(pk=record.pk)
    return stories.story(record, events)


def titles(record, *events):
    return [entry.title for entry in told(record, *events)]


def test_a_story_is_told_in_the_order_in_which_it_happened(admin_client):
    doubt = night()
    text = " ".join(shown(admin_client, doubt).split())
    words = [
        *("First attempt", "Failed", "ConnectionRefusedError", "attempt 1", "ran 3.200 s"),
        *("on worker-1:311", "Claimed", "attempt 2", "Taken over", "It was failed."),
        *("The effect begins", "In doubt", "SMTPServerDisconnected", "Deferred", "redelivered"),
        "The lease has run out",
    ]
    at = text.index("idempotency-story")
    for word in words:
        at = text.find(word, at)
        assert at > 0, word
    assert "says what happened" in text


def test_a_run_without_events_is_told_by_its_record():
    execute(int, key=7, scope="test")
    record = IdempotencyRecord.objects.get()
    assert titles(record) == ["First attempt", "Succeeded", "Forgotten: the key is as good as new"]
    assert [entry.is_ahead for entry in told(record)] == [False, False, True]
    at = ago(minutes=5)  # one statement writes both
    running = made("running", created_at=at, claimed_at=at, effect_begun_at=None)
    assert titles(running) == ["Claimed", "The lease runs out"]
    retried = made("failed", effect_begun_at=ago(minutes=4), repeat_until=ago(hours=-1))
    assert "The provider forgets the provider key" in titles(retried)


def test_a_failure_is_told_once():
    record = made("failed", settled_at=ago(minutes=4), error_class="x.Oops")
    [failure] = [entry for entry in told(record) if entry.title == "Failed"]
    assert failure.note == "x.Oops"
    noted = event(record, "failed", at=ago(minutes=4) + timedelta(seconds=1), note="Oops")
    assert titles(record, noted).count("Failed") == 1


def test_a_released_claim_is_not_told_as_a_failure_too():
    record = made("failed", settled_at=ago(minutes=4))
    told_of = event(record, "released", at=ago(minutes=4) + timedelta(seconds=1), note="By ada: ?")
    assert "Claim released" in titles(record, told_of)
    assert "Failed" not in titles(record, told_of)


def test_what_a_later_version_has_written_is_told_too(admin_client):
    """As during a deploy, or after one that was taken back."""
    record = made("in_doubt")
    event(record, "foreseen", note="told then")
    parked(record, "on_a_whim")
    text = shown(admin_client, record)
    assert "Foreseen" in text
    assert "told then" in text
    assert "on_a_whim" in text


def test_what_a_record_does_not_have_is_shown_as_nothing(admin_client):
    assert "None" not in shown(admin_client, made())


def test_times_are_relative_and_exact(admin_client):
    record = made(created_at=ago(minutes=5))
    listed = page(admin_client, "idempotencyrecord_changelist")
    exact = f"{record.created_at:%Y-%m-%d %H:%M:%S} UTC"
    found = re.search(rf'<time datetime="([^"]+)" title="{exact}">5 min ago</time>', listed)
    assert found
    assert found.group(1) == record.created_at.isoformat().replace("+00:00", "Z")
    assert exact[:-4] in shown(admin_client, record)
    assert "later" in shown(admin_client, record)


@override_settings(USE_TZ=False, TIME_ZONE="Asia/Tokyo")
def test_times_are_exact_without_time_zones_too(admin_client):
    execute(int, key=7, scope="test")
    record = IdempotencyRecord.objects.get()
    utc = record.created_at - timedelta(hours=9)
    with timezone.override("America/Lima"):  # a reader's, which the columns do not know
        listed = page(admin_client, "idempotencyrecord_changelist")
    assert f'title="{utc:%Y-%m-%d %H:%M:%S} UTC"' in listed


@pytest.mark.django_db(databases=["default", "sqlite"])
@override_settings(USE_TZ=False, TIME_ZONE="Asia/Tokyo", IDEMPOTENCY={"DATABASE": "sqlite"})
def test_the_clock_of_sqlite_is_not_taken_for_local_time(admin_client):
    """It is in UTC, and PostgreSQL's is in the zone of its session."""
    with pytest.raises(ZeroDivisionError):
        execute(lambda: 1 / 0, key=7, scope="test")
    at = IdempotencyRecord.objects.using("sqlite").get().created_at
    listed = page(admin_client, "idempotencyrecord_changelist")
    exact = f'title="{at:%Y-%m-%d %H:%M:%S} UTC">'
    assert re.search(rf"oldest <time [^>]*{exact}\d\S* s ago", listed)
    assert listed.count(exact) >= 2  # in the list too
    output = io.StringIO()
    call_command("idempotency_show", "7", "--scope", "test", stdout=output)
    assert f"{at + timedelta(hours=9):%Y-%m-%d %H:%M:%S}+09:00" in output.getvalue()


def test_only_the_newest_events_of_a_storm_are_told(admin_client, monkeypatch):
    monkeypatch.setattr("idempotency.admin.records.EVENTS", 2)
    record = made()
    for number in range(3):
        event(record, "duplicate", note=f"no. {number}")
    text = shown(admin_client, record)
    assert "no. 0" not in text
    assert text.index("no. 1") < text.index("no. 2")
    assert "the list of events has the others" in text


def test_a_result_is_shown_as_it_is_stored_up_to_a_size(admin_client):
    exact = '{"b":12345678901234567890123,"a":1.10}'
    assert exact.replace('"', "&quot;") in shown(admin_client, made(result=exact))
    text = shown(admin_client, made(result=f'"{"x" * LENGTH}-end"'))
    assert "10006 characters" in text.replace(",", "")
    assert "x" * (LENGTH - 1) in text
    assert "-end" not in text
    assert "idempotency_show --json" in text


def test_messages_that_wait_are_listed_with_what_becomes_of_them(admin_client):
    record = made("in_doubt")
    kept, lost = parked(record), parked(record, message=None)
    parked(made("in_doubt"), task_id="of another record")
    text = shown(admin_client, record)
    for message in (kept, lost):
        assert reverse("admin:idempotency_parkedmessage_change", args=[message.pk]) in text
        assert message.task_id in text
    assert "no: send it again yourself" in text
    assert "of another record" not in text


@pytest.mark.django_db(databases=["default", "sqlite"])
@pytest.mark.parametrize("alias", ["default", "sqlite"])
def test_the_records_are_those_of_the_database_that_the_settings_name(admin_client, alias):
    with override_settings(IDEMPOTENCY={"DATABASE": alias}):
        execute(int, key="here", scope="test")
        record = IdempotencyRecord.objects.using(alias).get()
        event(record, "duplicate", note="told there", using=alias)
        assert "1 record" in page(admin_client, "idempotencyrecord_changelist", q="test: here")
        assert "told there" in shown(admin_client, record)
        assert "told there" in page(admin_client, "idempotencyevent_changelist")
    other = "sqlite" if alias == "default" else "default"
    with override_settings(IDEMPOTENCY={"DATABASE": other}):
        assert "0 records" in page(admin_client, "idempotencyrecord_changelist")


# -- it only tells -------------------------------------------------------------------------------


@pytest.fixture
def viewer(client, db):
    """Somebody who may look, and no more."""
    user = User.objects.create_user("viewer", is_staff=True)
    about = {"content_type__app_label": "idempotency", "codename__startswith": "view_"}
    user.user_permissions.set(Permission.objects.filter(**about))
    client.force_login(user)
    return client


def test_who_may_look_sees_all_and_changes_nothing(viewer):
    doubt = night()
    assert "1 in doubt" in page(viewer, "idempotencyrecord_changelist")
    assert "What happened" in shown(viewer, doubt)
    before = list(IdempotencyRecord.objects.order_by("pk").values())
    for model, row in (
        ("idempotencyrecord", doubt),
        ("parkedmessage", ParkedMessage.objects.first()),
    ):
        for act in ("change", "delete"):
            address = reverse(f"admin:idempotency_{model}_{act}", args=[row.pk])
            assert viewer.post(address, {"state": "failed", "post": "yes"}).status_code == 403
        assert viewer.get(reverse(f"admin:idempotency_{model}_add")).status_code == 403
    listed = reverse("admin:idempotency_idempotencyrecord_changelist")
    viewer.post(listed, {"action": "delete_selected", "_selected_action": [doubt.pk], "post": "y"})
    assert list(IdempotencyRecord.objects.order_by("pk").values()) == before
    assert ParkedMessage.objects.count() == 4


def test_who_may_not_look_sees_nothing(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("nobody", is_staff=True))
    for name, row in (("changelist", []), ("change", [made().pk])):
        address = reverse(f"admin:idempotency_idempotencyrecord_{name}", args=row)
        assert client.get(address).status_code == 403


class Inline(HTMLParser):
    """Script and style in the page itself, which a strict Content-Security-Policy refuses."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        is_code = given.get("type", "") not in ("application/json", "text/template")
        if tag == "style" or (tag == "script" and "src" not in given and is_code):
            self.found.append(tag)
        self.found += [name for name in given if name == "style" or name.startswith("on")]
        self.found += [url for url in given.values() if (url or "").startswith("javascript:")]


def everything(client, record):
    """All our pages that show something of a record."""
    for model in ("idempotencyrecord", "idempotencyevent", "parkedmessage"):
        yield page(client, f"{model}_changelist")
        yield page(client, f"{model}_changelist", q=HOSTILE)
    yield shown(client, record)
    yield page(client, "idempotencyevent_change", record.its_event.pk)
    yield page(client, "parkedmessage_change", record.its_message.pk)


@pytest.fixture
def hostile():
    """A record whose every text was written by somebody who means harm."""
    record = made(
        "failed",
        **dict.fromkeys(("scope", "key", "owner", "task_id", "error_message"), HOSTILE),
        error_class=f"a.{HOSTILE}",
        policy=HOSTILE,
    )
    note = dict.fromkeys(("note", "worker"), HOSTILE)
    record.its_event = event(record, "failed", **note)
    record.its_message = parked(record, task_id=HOSTILE, message=HOSTILE)
    return record


def test_what_others_have_written_is_text(admin_client, hostile):
    execute(lambda: HOSTILE, key=HOSTILE, scope="test")
    success = IdempotencyRecord.objects.get(scope="test")
    for text in (*everything(admin_client, hostile), shown(admin_client, success)):
        assert "<script>alert" not in text
        assert "alert(&#x27;x&#x27;)" in text


def test_no_page_needs_a_script_or_a_style_of_its_own(admin_client, hostile):
    for text in everything(admin_client, hostile):
        parser = Inline()
        parser.feed(text)
        assert parser.found == []
        assert "idempotency/admin.css" in text
        assert "idempotency/admin.js" in text


def hide(field, text):
    return f"[{field}]"


def test_what_must_not_be_shown_is_shown_nowhere(admin_client, settings):
    settings.IDEMPOTENCY = {"REDACT": f"{__name__}.hide"}
    record = made("failed", key="s3cret", error_message="s3cret")
    record.its_event = event(record, "failed", note="s3cret")
    record.its_message = parked(record, message="s3cret")
    pages = [*everything(admin_client, record), shown(admin_client, made(result='"s3cret"'))]
    assert all("s3cret" not in text for text in pages)
    told = "".join(pages)
    for field in ("key", "result", "message", "error_message", "note"):
        assert f"[{field}]" in told


@pytest.mark.parametrize(
    ("name", "column"),
    [
        *(("idempotencyrecord", column) for column in ("key", "result", "error_message")),
        ("idempotencyevent", "note"),
        ("parkedmessage", "message"),
    ],
)
def test_what_must_not_be_shown_is_not_guessed_by_a_filter(admin_client, settings, name, column):
    address = reverse(f"admin:idempotency_{name}_changelist")
    guess = {f"{column}__startswith": "s"}
    assert admin_client.get(address, guess).status_code == 200
    settings.IDEMPOTENCY = {"REDACT": f"{__name__}.hide"}
    assert admin_client.get(address, guess).status_code == 400
    assert admin_client.get(address, {"key_hash": "7" * 32}).status_code == 200


# -- for a project to override -------------------------------------------------------------------


class AnotherModelAdmin(admin.ModelAdmin):
    """In the place of Unfold's or any other."""


class OwnAdmin(RecordAdminMixin, AnotherModelAdmin):
    class Media:
        js = ["own.js"]

    monitor_url = "https://flower.example/task/{task_id}"

    def get_related_url(self, record):
        return f"/orders/?q={HOSTILE}"


class OwnSite(admin.AdminSite):
    def get_urls(self):
        results = path("results/", self.index, name="django_celery_results_taskresult_changelist")
        return [results, *super().get_urls()]


own = OwnSite(name="admin")
own.register(IdempotencyRecord, OwnAdmin)
for model, view in admin.site._registry.items():
    if model._meta.app_label == "idempotency" and model is not IdempotencyRecord:
        own.register(model, type(view))
alone = admin.AdminSite(name="alone")
alone.register(IdempotencyRecord, OwnAdmin)
urlpatterns = [path("admin/", own.urls), path("alone/", alone.urls)]


@pytest.mark.urls(__name__)
def test_a_project_mixes_it_with_its_own_admin_and_gives_it_links(admin_client):
    text = shown(admin_client, made(task_id="5f/0e"))
    assert '<a href="https://flower.example/task/5f%2F0e">Monitor</a>' in text
    assert "flower.example" not in shown(admin_client, made())
    assert f"/orders/?q={HOSTILE}" not in text
    assert "/orders/?q=&lt;script&gt;" in text
    assert "own.js" in text
    assert "admin/js/core.js" in text
    assert "idempotency/admin.js" in text
    assert "Nothing needs attention." in page(admin_client, "idempotencyrecord_changelist")


@pytest.mark.urls(__name__)
def test_records_stand_alone_where_a_project_has_left_out_the_rest(admin_client):
    record = made("in_doubt")
    message = parked(record)
    listed = admin_client.get(reverse("alone:idempotency_idempotencyrecord_changelist"))
    assert "1 parked message" in listed.content.decode()
    address = reverse("alone:idempotency_idempotencyrecord_change", args=[record.pk])
    text = admin_client.get(address).content.decode()
    assert message.task_id in text
    for told in (listed.content.decode(), text):
        assert 'href=""' not in told
        assert 'href="/admin/' not in told


@pytest.fixture
def celery_results(monkeypatch):
    installed = "idempotency.admin.records.apps.is_installed"
    monkeypatch.setattr(installed, lambda name: name == "django_celery_results")


@pytest.mark.urls(__name__)
@pytest.mark.usefixtures("celery_results")
def test_a_result_that_celery_has_kept_is_linked(admin_client):
    text = shown(admin_client, made(task_id="5f 0e"))
    assert '<a href="/admin/results/?task_id=5f+0e">Task result</a>' in text
    assert "Task result" not in shown(admin_client, made())


@pytest.mark.usefixtures("celery_results")
def test_no_result_is_linked_that_is_not_in_the_admin(admin_client):
    assert "Task result" not in shown(admin_client, made(task_id="5f0e"))
