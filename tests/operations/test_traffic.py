"""The last hours are found at the end of the primary key, and counted as they were."""

import io
import json
from collections import Counter
from datetime import timedelta
from random import Random

import pytest
from django.core.management import call_command
from django.db.models import Max
from django.utils import timezone

from idempotency import backlog, execute, statistics
from idempotency.backlog import due, waiting
from idempotency.maintenance import purge
from idempotency.models import IdempotencyEvent, IdempotencyRecord
from idempotency.statistics import traffic
from idempotency.storage import tails
from tests.admin.records import ago, event, made, parked

pytestmark = pytest.mark.django_db(databases=["default", "sqlite"])

BOTH = pytest.mark.parametrize("using", ["default", "sqlite"])
DAY = timedelta(days=1)


def hour_of(at, now):
    """By a way of its own: 23 is the last hour."""
    return 23 - int((now - at).total_seconds() // 3600)


@BOTH
def test_each_row_counts_in_its_hour_and_scope(using):
    random, now = Random(7), timezone.now()
    spans = sorted((random.uniform(0, 40) for _ in range(60)), reverse=True)
    made_at, answered_at = {}, {}
    for number, hours in enumerate(spans):
        at = now - timedelta(hours=hours, seconds=random.randrange(60))
        scope = f"shop.{number % 3}"
        row = made(created_at=at, scope=scope, using=using)
        if at > now - DAY:
            made_at.setdefault(scope, Counter())[hour_of(at, now)] += 1
        if number % 2:
            event(row, "duplicate", using, at=at)
            if at > now - DAY:
                answered_at.setdefault(scope, Counter())[hour_of(at, now)] += 1
        if number % 5 == 0:  # ids without a row
            row.delete()
            if at > now - DAY:
                made_at[scope][hour_of(at, now)] -= 1
    came = traffic(using)
    # A row at the very edge of an hour may fall into the next one while this runs.
    assert {scope.name: scope.duplicates for scope in came.scopes} == answered_at
    assert {scope.name: scope.records for scope in came.scopes} == {
        scope: +numbers for scope, numbers in made_at.items()
    }
    assert came.hours == 24
    assert abs(came.begin.timestamp() - (now - DAY).timestamp()) < 60


@BOTH
def test_a_transaction_that_was_long_hides_no_other(using):
    """Its record has the time of its beginning, and an id among those made at its end."""
    made(created_at=ago(hours=30), using=using)
    for _ in range(5):
        made(created_at=ago(hours=23.9), using=using)
    for _ in range(tails.ASKED):
        made(created_at=ago(hours=24.5), using=using)  # made half an hour later, side by side
    assert traffic(using).total.records.total() == 5


@BOTH
def test_a_transaction_that_was_long_and_ended_last_hides_no_other(using):
    for _ in range(5):
        made(created_at=ago(hours=1), using=using)
    made(created_at=ago(hours=30), using=using)
    assert traffic(using).total.records.total() == 5


@BOTH
def test_an_empty_table_has_no_traffic(using):
    came = traffic(using)
    assert (came.scopes, came.is_estimate) == ([], False)
    assert came.total.one_in is None
    assert due(using).records == 0


def test_what_is_more_than_can_be_counted_is_estimated(monkeypatch):
    """A stretch of each step is read, and counts for all of it."""
    monkeypatch.setattr(tails, "STRETCHES", 10)
    monkeypatch.setattr(tails, "STRETCH", 5)
    for _ in range(50):
        made()
    assert not traffic("default").is_estimate
    for _ in range(550):
        made()
    came = traffic("default")
    assert came.is_estimate
    assert came.total.records.total() == 600


def test_scopes_without_end_are_told_together(monkeypatch):
    monkeypatch.setattr(statistics, "SCOPES", 2)
    for scope, number in {"a": 3, "b": 2, "c": 1, "d": 1}.items():
        for _ in range(number):
            made(scope=scope)
    scopes = traffic("default").scopes
    assert [(scope.name, scope.records.total()) for scope in scopes] == [
        ("a", 3),
        ("b", 2),
        (None, 2),
    ]


@BOTH
def test_a_scope_is_told_with_all_of_its_rows_or_with_none(using, monkeypatch):
    """The one with the most duplicates need not be among those with the most records."""
    monkeypatch.setattr(statistics, "SCOPES", 2)
    for scope, records, duplicates in (("a", 5, 3), ("b", 4, 0), ("c", 1, 6)):
        rows = [made(scope=scope, using=using) for _ in range(records)]
        for _ in range(duplicates):
            event(rows[0], "duplicate", using)
    assert [
        (scope.name, scope.records.total(), scope.duplicates.total(), scope.deliveries)
        for scope in traffic(using).scopes
    ] == [("a", 5, 3, 8), ("c", 1, 6, 7), (None, 4, 0, 4)]


@BOTH
def test_what_waits_is_counted_by_what_it_waits_for(using):
    for hours in (3, 2):
        made("in_doubt", created_at=ago(days=29), effect_begun_at=ago(hours=hours), using=using)
    made("running", using=using)
    made("running", lease_expires_at=ago(minutes=2), using=using)
    made("failed", using=using)
    made("failed", created_at=ago(days=29), exhausted_at=ago(hours=1), using=using)
    told = waiting(using)
    assert {name: each.number for name, each in told.items()} == {
        "in_doubt": 2,
        "lapsed": 1,
        "running": 1,
        "exhausted": 1,
        "failed": 1,
    }
    first = IdempotencyRecord.objects.using(using).earliest("pk")
    assert told["in_doubt"].oldest == first.effect_begun_at
    # It may be a key that was first claimed weeks ago.
    assert timedelta(hours=3) <= told["in_doubt"].age < timedelta(hours=3.1)
    assert timedelta(hours=1) <= told["exhausted"].age < timedelta(hours=1.1)


@BOTH
def test_the_purge_lag_is_that_of_the_purge(using):
    for days in (1, 5, 2):
        made(expires_at=ago(days=days), using=using)
    made("failed", expires_at=ago(days=9), exhausted_at=ago(days=40), using=using)
    kept = made(expires_at=ago(days=9))
    parked(kept, using=using)
    made(using=using)
    told, done = due(using), purge(using=using, dry_run=True)
    assert told.records == done.records == 3
    assert abs(told.lag - done.lag) < timedelta(minutes=1)
    assert not told.is_estimate


def test_a_short_retention_in_the_middle_of_a_large_table_is_seen(monkeypatch):
    monkeypatch.setattr(backlog, "STRETCHES", 4)
    monkeypatch.setattr(backlog, "STRETCH", 5)
    for number in range(80):
        made(expires_at=ago(days=1 if 30 <= number < 60 else -30))
    told = due("default")
    assert told.is_estimate
    assert DAY <= told.lag < 2 * DAY
    assert told.records > 0


@BOTH
def test_a_record_that_was_left_behind_does_not_hide_the_others(using, monkeypatch):
    monkeypatch.setattr(backlog, "STRETCHES", 4)
    monkeypatch.setattr(backlog, "STRETCH", 5)
    left = {"expires_at": ago(days=370), "exhausted_at": ago(days=400)}
    made("failed", id=1, using=using, **left)
    for number in range(80):
        days = 1 if 30 <= number < 60 else -30
        made(id=91_000_000 + number, expires_at=ago(days=days), using=using)
    told = due(using)
    assert told.is_estimate
    assert DAY <= told.lag < 2 * DAY
    assert 10 <= told.records <= 50
    # More than the head of the table was left behind.
    for number in range(20):
        made("failed", id=10 + number, using=using, **left)
    rows = IdempotencyRecord.objects.using(using)
    rows.filter(id__range=(91_000_000, 91_000_020)).update(expires_at=ago(days=1))
    assert DAY <= due(using).lag < 2 * DAY


def test_the_command_says_the_same_in_words_and_as_json():
    for _ in range(4):
        execute(lambda: None, key="one", scope="shop.ship")
    event(IdempotencyRecord.objects.get(), "deferred")
    made(expires_at=ago(days=3), scope="shop.ship")

    text, said = io.StringIO(), io.StringIO()
    call_command("idempotency_stats", stdout=text)
    call_command("idempotency_stats", "--json", stdout=said)
    assert "to purge         1 records, the oldest forgotten for 3 d" in text.getvalue()
    line = "shop.ship: 5 deliveries in 24 h, 3 duplicates (1 in 1.7), 0 failures, 1 deferrals"
    assert line in text.getvalue()
    told = json.loads(said.getvalue())
    [scope] = told["scopes"]
    [hour] = scope["by_hour"]
    newest = IdempotencyEvent.objects.aggregate(at=Max("at"))["at"]
    assert hour["from"] <= newest.isoformat()
    assert (hour["records"], hour["duplicates"], scope["deferrals"]) == (2, 3, 1)
    assert 3 * 86400 <= told["purge"]["lag"] < 3 * 86400 + 60
