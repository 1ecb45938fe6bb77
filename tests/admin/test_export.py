"""A list leaves the admin as a file: all of it, exactly, bounded in memory and harmless."""

import csv
import gc
import json
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from idempotency.admin import RecordAdmin, export
from idempotency.models import IdempotencyEvent, IdempotencyRecord
from tests.admin.conftest import as_user
from tests.admin.records import event, made, parked

pytestmark = pytest.mark.django_db

RECORDS = "idempotencyrecord"


def exported(client, name, *rows, model=RECORDS, query="", **more):
    """The response to an export of what is selected."""
    address = reverse(f"admin:idempotency_{model}_changelist") + query
    chosen = {"action": f"export_{name}", "_selected_action": [row.pk for row in rows]}
    return client.post(address, chosen | more)


def rows_of(response):
    text = response.getvalue().decode()
    if "json" in response.headers["Content-Type"]:
        return json.loads(text)
    return list(csv.DictReader(text.splitlines(keepends=True)))


@pytest.mark.parametrize("name", ["csv", "json"])
def test_what_is_selected_is_exported_with_every_column(admin_client, name):
    record, _ = made(result='{"id": 9007199254740993}', task_id="5f0e"), made()
    response = exported(admin_client, name, record)
    assert f'filename="idempotency_record.{name}"' in response.headers["Content-Disposition"]
    [row] = rows_of(response)
    assert list(row) == [*(f.attname for f in record._meta.concrete_fields), "provider_key"]
    assert row["result"] == '{"id": 9007199254740993}'
    assert row["key_hash"] == record.key_hash.hex
    assert row["provider_key"] == str(record.provider_key)
    assert str(row["attempt"]) == "1"
    assert row["claim_id"] in (None, "")


@pytest.mark.parametrize("name", ["csv", "json"])
def test_a_record_that_one_may_not_see_is_not_exported(admin_client, monkeypatch, name):
    seen, *hidden = made(), made(), made()
    monkeypatch.setattr(export, "CHUNK", 1)
    monkeypatch.setattr(
        RecordAdmin, "has_view_permission", lambda self, request, obj=None: obj in (None, seen)
    )
    [row] = rows_of(exported(admin_client, name, *hidden, seen))
    assert str(row["id"]) == str(seen.pk)


@pytest.mark.parametrize("settings_of_time", [{}, {"USE_TZ": False, "TIME_ZONE": "Asia/Tokyo"}])
def test_an_instant_is_exact_and_in_utc(admin_client, settings_of_time):
    record = made()
    exact = datetime(2026, 3, 1, 2, 3, 4, 5, UTC)
    IdempotencyRecord.objects.update(created_at=exact)
    told = event(record, "failed", duration=timedelta(microseconds=1_200_003))
    with override_settings(**settings_of_time):
        [row] = rows_of(exported(admin_client, "json", record))
        [noted] = rows_of(exported(admin_client, "json", told, model="idempotencyevent"))
    assert row["created_at"] == "2026-03-01T02:03:04.000005Z"
    assert noted["duration"] == 1.200003


def test_all_that_a_list_is_narrowed_to_is_exported_also_past_its_pages(admin_client, monkeypatch):
    monkeypatch.setattr("idempotency.admin.base.CappedPaginator.CAP", 1)
    monkeypatch.setattr(export, "CHUNK", 2)
    wanted = [made("failed") for _ in range(5)]
    made()
    response = exported(
        admin_client, "json", wanted[0], query="?state=failed", select_across="1", index="0"
    )
    assert [row["id"] for row in rows_of(response)] == [row.pk for row in reversed(wanted)]


def test_nothing_is_exported_as_an_empty_file():
    none = IdempotencyRecord.objects.none()
    assert "".join(export.as_json([], export.in_chunks(none))) == "[]\n"
    assert "".join(export.as_csv(["id"], export.in_chunks(none))) == '"id"\r\n'


HARMFUL = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", '=HYPERLINK("//x")']  # noqa: RUF001 wide forms are meant


@pytest.mark.parametrize("text", HARMFUL)
def test_no_cell_is_a_formula(admin_client, text):
    record = made(key=text, scope=text)
    response = exported(admin_client, "csv", record)
    [row] = csv.DictReader(response.getvalue().decode().splitlines(keepends=True))
    assert row["key"] == row["scope"] == f"'{text}"
    [row] = rows_of(exported(admin_client, "json", record))
    assert row["key"] == text


def test_a_text_cannot_leave_its_cell(admin_client):
    text = 'a","=1+1\r\n"=2",;\u202e\u2028日本'
    [row] = rows_of(exported(admin_client, "csv", made(key=text)))
    assert row["key"] == text
    [row] = rows_of(exported(admin_client, "json", made(key=text)))
    assert row["key"] == text


def hide(field, text):
    return f"[{field}]"


def test_what_must_not_be_shown_is_not_exported(admin_client, settings):
    settings.IDEMPOTENCY = {"REDACT": f"{__name__}.hide"}
    failed = made("failed", key="s3cret", error_message="s3cret")
    record = made(result='"s3cret"')
    noted, message = event(record, "failed", note="s3cret"), parked(record, message="s3cret")
    for name in ("csv", "json"):
        for model, rows in (
            (RECORDS, (failed, record)),
            ("idempotencyevent", (noted,)),
            ("parkedmessage", (message,)),
        ):
            text = exported(admin_client, name, *rows, model=model).getvalue().decode()
            assert "s3cret" not in text
            assert "[" in text


def test_who_may_look_may_export_and_nobody_else(client):
    record = made()
    assert rows_of(exported(as_user("view").client, "json", record))[0]["id"] == record.pk
    User.objects.create_user("events", is_staff=True).user_permissions.add(
        Permission.objects.get(codename="view_idempotencyevent")
    )
    client.force_login(User.objects.get(username="events"))
    assert exported(client, "json", record).status_code == 403


def many(number, size):
    """So many successes, each with a result of so many characters."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO idempotency_record (key_hash, scope, state, attempt, generation, result,"
            " created_at, settled_at, expires_at) SELECT gen_random_uuid(), 'shop.ship',"
            " 'succeeded', 1, 1, '\"' || repeat('x', %s) || '\"', now(), now(), now()"
            " FROM generate_series(1, %s)",
            [size, number],
        )


def test_fifty_thousand_rows_are_streamed_in_bounded_memory(admin_client):
    number, size = 50_000, 400
    many(number, size)
    gc.collect()  # what tests before this one left in cycles
    response = exported(admin_client, "csv", IdempotencyRecord.objects.first(), select_across="1")
    with CaptureQueriesContext(connection) as asked:
        parts = iter(response.streaming_content)
        next(parts)
        next(parts)
    assert len(asked) == 1, "the first rows are sent before the others are read"
    assert f"LIMIT {export.CHUNK}" in asked[0]["sql"]
    rows = most = alive = 0
    for part in parts:
        rows += part.count(b"\r\n")
        most = max(most, len(part))
        if rows % 10_000 == 0:
            alive = max(alive, sum(isinstance(o, IdempotencyRecord) for o in gc.get_objects()))
    assert rows == number - export.CHUNK
    assert most < 2 * export.CHUNK * (size + 500)
    assert 0 < alive <= 4 * export.CHUNK, "two chunks, and the page of the list on Django 6.1"


def test_a_row_that_comes_meanwhile_is_not_told_twice(monkeypatch):
    monkeypatch.setattr(export, "CHUNK", 2)
    rows = [made().pk for _ in range(4)]
    chunks = export.in_chunks(IdempotencyRecord.objects.all())
    told = [row.pk for row in next(chunks)]
    made()
    IdempotencyRecord.objects.filter(pk=rows[1]).delete()
    told += [row.pk for chunk in chunks for row in chunk]
    assert told == [rows[3], rows[2], rows[0]]


async def _under_asgi(client, name, record):
    address = reverse("admin:idempotency_idempotencyrecord_changelist")
    chosen = {"action": f"export_{name}", "_selected_action": [record.pk]}
    response = await client.post(address, chosen)
    assert response.is_async
    return b"".join([part async for part in response.streaming_content])


@pytest.mark.django_db(transaction=True)
def test_it_is_streamed_under_asgi_too(async_client, admin_user):
    record = made()
    async_client.force_login(admin_user)
    text = async_to_sync(_under_asgi)(async_client, "json", record)
    assert json.loads(text)[0]["id"] == record.pk


def test_the_lists_of_events_and_messages_are_exported_too(admin_client):
    record = made()
    noted, message = event(record, "duplicate"), parked(record)
    assert rows_of(exported(admin_client, "csv", noted, model="idempotencyevent"))[0]["kind"]
    assert rows_of(exported(admin_client, "csv", message, model="parkedmessage"))[0]["task_id"]
    assert IdempotencyEvent.objects.count() == 1
