"""The admin shows what there is, and lets nobody change it."""

import pytest
from django.urls import reverse

from idempotency import Leased, OnDoubt, execute
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage, Reason
from idempotency.parking import park

pytestmark = pytest.mark.django_db

MODELS = ("idempotencyrecord", "idempotencyevent", "parkedmessage")


@pytest.fixture
def records():
    """One success, one duplicate of it, one doubt with a message that waits."""
    for _ in range(2):
        execute(lambda: "done", key="first", scope="shipping")
    with pytest.raises(ZeroDivisionError):
        execute(lambda: 1 / 0, key="second", scope="mails", policy=Leased(on_doubt=OnDoubt.HOLD))
    doubt = IdempotencyRecord.objects.get(state="in_doubt")
    park("default", doubt.key_hash, Reason.IN_DOUBT, task_id="the-task", message="{}")


def page(client, name, *args, **query):
    response = client.get(reverse(f"admin:idempotency_{name}", args=args), query)
    assert response.status_code == 200
    return response.content.decode()


def test_each_list_shows_its_rows_newest_first(admin_client, records):
    lists = {model: page(admin_client, f"{model}_changelist") for model in MODELS}
    assert lists["idempotencyrecord"].index("mails") < lists["idempotencyrecord"].index("shipping")
    assert "duplicate answered" in lists["idempotencyevent"]
    assert "the-task" in lists["parkedmessage"]
    assert "until the doubt is resolved" in lists["parkedmessage"]


def test_a_record_is_found_by_its_hash(admin_client, records):
    record = IdempotencyRecord.objects.get(scope="shipping")
    for words in (record.key_hash.hex, f" {record.key_hash} "):
        found = page(admin_client, "idempotencyrecord_changelist", q=words)
        assert "shipping" in found
        assert "mails" not in found
    for words in (record.key_hash.hex[::-1], "no hash"):
        assert "0 records" in page(admin_client, "idempotencyrecord_changelist", q=words)


def test_records_are_filtered_by_state(admin_client, records):
    found = page(admin_client, "idempotencyrecord_changelist", state__exact="in_doubt")
    assert "mails" in found
    assert "shipping" not in found


def test_details_are_shown(admin_client, records):
    record = IdempotencyRecord.objects.get(scope="mails")
    shown = page(admin_client, "idempotencyrecord_change", record.pk)
    assert "builtins.ZeroDivisionError" in shown
    event = IdempotencyEvent.objects.get(kind="in_doubt")
    assert "ZeroDivisionError" in page(admin_client, "idempotencyevent_change", event.pk)


def test_nobody_adds_changes_or_deletes(admin_client, records):
    record = IdempotencyRecord.objects.get(scope="mails")
    for model in MODELS:
        assert admin_client.get(reverse(f"admin:idempotency_{model}_add")).status_code == 403
    for act in ("change", "delete"):
        address = reverse(f"admin:idempotency_idempotencyrecord_{act}", args=[record.pk])
        assert admin_client.post(address, {"state": "failed"}).status_code == 403
    listed = reverse("admin:idempotency_idempotencyrecord_changelist")
    chosen = {"action": "delete_selected", "_selected_action": [record.pk], "post": "yes"}
    admin_client.post(listed, chosen)
    record.refresh_from_db()
    assert record.state == "in_doubt"


def hide(field, text):
    return f"<{field} & {len(text)} characters>"


def test_what_must_not_be_shown_is_not_shown(admin_client, records, settings):
    settings.IDEMPOTENCY = {"REDACT": f"{__name__}.hide"}
    for state, field in (("succeeded", "result"), ("in_doubt", "error_message")):
        record = IdempotencyRecord.objects.get(state=state)
        shown = page(admin_client, "idempotencyrecord_change", record.pk)
        assert f"&lt;{field} &amp; " in shown
        assert getattr(record, field) not in shown
    message = ParkedMessage.objects.get()
    assert "&lt;message &amp; 2 char" in page(admin_client, "parkedmessage_change", message.pk)
    event = IdempotencyEvent.objects.get(kind="in_doubt")
    for shown in (
        page(admin_client, "idempotencyevent_change", event.pk),
        page(admin_client, "idempotencyevent_changelist"),
    ):
        assert "&lt;note &amp; " in shown
        assert event.note not in shown
    assert IdempotencyRecord.objects.get(state="succeeded").result == '"done"'
