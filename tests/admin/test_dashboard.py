"""The dashboard: the numbers of the last day, for whoever may look."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from idempotency.models import IdempotencyRecord
from tests.admin.conftest import as_user
from tests.admin.pages import page
from tests.admin.records import HOSTILE, ago, event, made

pytestmark = pytest.mark.django_db

DASHBOARD = "admin:idempotency_dashboard"


def told(html):
    """The numbers of the page, by their names."""
    pairs = re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd></div>", html)
    return {name: re.sub(r"<.*?>", "", number).strip() for name, number in pairs}


def a_day(using="default"):
    """Three hours ago four records and a failure, of which one was answered twice since."""
    rows = [made(using=using, created_at=ago(hours=3, minutes=5)) for _ in range(4)]
    event(rows[0], "failed", using, at=ago(hours=3, minutes=5))
    event(rows[0], "duplicate", using, at=ago(minutes=70), redelivered=True)
    event(rows[0], "duplicate", using, at=ago(minutes=10))
    event(rows[1], "deferred", using, at=ago(minutes=5))


def test_the_list_leads_to_the_dashboard(admin_client):
    assert f'href="{reverse(DASHBOARD)}"' in page(admin_client, "idempotencyrecord_changelist")
    assert "<h2>By scope</h2>" in page(admin_client, "dashboard")


def test_the_numbers_are_those_of_the_last_day(admin_client):
    made(created_at=ago(hours=25))
    a_day()
    assert told(page(admin_client, "dashboard")) == {
        "Redelivery rate": "1 in 3.5 deliveries",
        "Flagged by the broker": "1",
        "Failures": "1",
        "Deferrals": "1",
        "Purge lag": "none",
    }


def test_every_drawing_says_in_words_what_it_shows(admin_client):
    a_day()
    html = page(admin_client, "dashboard")
    drawings = re.findall(r'<svg class="idempotency-chart".*?</svg>', html, re.DOTALL)
    assert len(drawings) == 4
    for drawing in drawings:
        title, desc = re.search(r'aria-labelledby="([\w-]+) ([\w-]+)"', drawing).groups()
        assert f'<title id="{title}">' in drawing
        words = re.search(rf'<desc id="{desc}">(.*?)</desc>', drawing).group(1)
        bars = re.findall(r"<rect [^>]*><title>(.*?)</title>", drawing)
        assert bars
        assert words == "; ".join(bars)
    ids = re.findall(r' id="([\w-]+)"', html)
    assert len(ids) == len(set(ids))


def test_where_nothing_came_the_page_says_so(admin_client):
    html = page(admin_client, "dashboard")
    assert "Nothing was delivered." in html
    assert "Nothing needs attention." in html
    assert told(html)["Redelivery rate"] == "none in 0"


def test_a_purge_that_lags_behind_is_seen(admin_client):
    made(expires_at=ago(days=3))
    assert told(page(admin_client, "dashboard"))["Purge lag"] == "3 d 1 forgotten"


def test_what_is_estimated_is_said_to_be(admin_client, monkeypatch):
    for _ in range(6):
        made()
    assert "estimated" not in page(admin_client, "dashboard")
    monkeypatch.setattr("idempotency.storage.tails.STRETCHES", 1)
    monkeypatch.setattr("idempotency.storage.tails.STRETCH", 3)
    html = page(admin_client, "dashboard")
    assert "estimated from samples" in html
    assert "<strong>6</strong> records made" in html


def test_a_scope_is_a_text_and_no_markup(admin_client):
    made(scope=HOSTILE)
    html = page(admin_client, "dashboard")
    assert "alert(" in html
    assert "<script>alert" not in html


def test_nothing_of_it_is_refused_by_a_strict_policy(admin_client):
    a_day()
    html = page(admin_client, "dashboard")
    ours = html[html.index('id="content-main"') :]
    assert " style=" not in ours
    assert not re.search(r"<(script|style)\b", ours[: ours.index("<footer")])


@pytest.mark.django_db(databases=["default", "sqlite"])
def test_it_counts_in_the_database_that_the_settings_name(admin_client, settings):
    settings.IDEMPOTENCY = {"DATABASE": "sqlite"}
    a_day("sqlite")
    made(expires_at=ago(days=3), using="sqlite")
    html = page(admin_client, "dashboard")
    assert told(html)["Redelivery rate"] == "1 in 4.0 deliveries"
    assert told(html)["Purge lag"] == "3 d 1 forgotten"
    settings.IDEMPOTENCY = {}
    assert "Nothing was delivered." in page(admin_client, "dashboard")


def test_whoever_may_not_see_records_does_not_see_their_numbers():
    address = reverse(DASHBOARD)
    assert as_user("view", name="ada").client.get(address).status_code == 200
    assert as_user("purge", name="bob").client.get(address).status_code == 403
    assert Client().get(address).status_code == 302


def test_records_that_are_made_now_are_in_the_last_hour(admin_client):
    """Also in a request that is a transaction, whose clock stands still."""
    for record in (made(), made()):
        IdempotencyRecord.objects.filter(pk=record.pk).update(
            created_at=record.created_at + timedelta(minutes=5)
        )
    html = page(admin_client, "dashboard")
    assert "<strong>2</strong> records made" in html
    assert html.count("<rect") == 2
