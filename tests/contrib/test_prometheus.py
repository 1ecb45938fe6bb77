"""Prometheus: what is counted is what happened, in every process, and no key is ever a label."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, connections
from django.test import RequestFactory, override_settings
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from idempotency import Leased, OnDoubt, execute, signals
from idempotency.contrib import measures, prometheus
from idempotency.models import IdempotencyRecord
from tests.docs.test_pages import names_of
from tests.harness.processes import ROOT
from tests.jobs.models import Effect
from tests.jobs.tasks import transactional, unclear

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def connected():
    prometheus.connect()
    yield
    for signal in measures.OUTCOMES:
        getattr(signals, signal).disconnect(dispatch_uid=f"{prometheus.__name__} {signal}")


@pytest.fixture
def scope():
    return f"shop-{uuid4().hex}"


def answers(scope, registry=REGISTRY, name="idempotency_answers_total"):
    """The counts of a scope, by outcome."""
    return {
        sample.labels["outcome"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name and sample.labels["scope"] == scope
    }


def gauges(registry):
    return {
        (sample.name.removeprefix("idempotency_"), *sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


class Scraped:
    """What a server was told, as a registry."""

    def __init__(self, text):
        self.text = text

    def collect(self):
        return text_string_to_metric_families(self.text)


def fail():
    raise ZeroDivisionError


def test_each_call_counts_by_what_it_came_to(connected, scope):
    for _ in range(3):
        execute(lambda: None, key="one", scope=scope)
    with pytest.raises(ZeroDivisionError):
        execute(fail, key="two", scope=scope)
    with pytest.raises(ZeroDivisionError):
        execute(fail, key="three", scope=scope, policy=Leased(on_doubt=OnDoubt.HOLD))
    assert answers(scope) == {"succeeded": 1, "replayed": 2, "failed": 1, "in_doubt": 1}
    # Of a duplicate no body ran.
    ran = answers(scope, name="idempotency_body_duration_seconds_count")
    assert ran == {"succeeded": 1, "failed": 1, "in_doubt": 1}


def test_to_connect_twice_counts_once(connected, scope):
    prometheus.connect()
    execute(lambda: None, key="one", scope=scope)
    assert answers(scope) == {"succeeded": 1}


def test_no_key_becomes_a_label(connected, scope):
    execute(lambda: None, key="hunter2", scope=scope)
    record = IdempotencyRecord.objects.get()
    told = generate_latest(REGISTRY).decode()
    assert scope in told
    for secret in ("hunter2", record.key_hash.hex, str(record.key_hash)):
        assert secret not in told


def test_scopes_without_end_become_one_series(connected, scope, monkeypatch):
    monkeypatch.setattr(measures, "_scopes", set())
    monkeypatch.setattr(measures, "MOST_SCOPES", 2)
    before = answers(measures.OTHERS).get("succeeded", 0)
    for number in range(5):
        execute(lambda: None, key="key", scope=f"{scope}-{number}")
    assert [answers(f"{scope}-{number}").get("succeeded") for number in range(3)] == [1, 1, None]
    assert answers(measures.OTHERS)["succeeded"] == before + 3


@pytest.mark.parametrize("using", ["default", "sqlite"])
@pytest.mark.django_db(transaction=True, databases=["default", "sqlite"])
def test_what_waits_is_read_at_each_scrape(using):
    registry = CollectorRegistry(auto_describe=True)
    registry.register(prometheus.StateCollector(using))
    told = gauges(registry)
    assert told["records", "in_doubt"] == told["purge_lag_seconds",] == 0
    hold = Leased(on_doubt=OnDoubt.HOLD)
    with pytest.raises(ZeroDivisionError):
        execute(fail, key="one", scope="shop", policy=hold, using=using)
    execute(lambda: None, key="two", scope="shop", using=using)
    records = IdempotencyRecord.objects.using(using)
    two_hours_ago = records.get(state="succeeded").created_at - timedelta(hours=2)
    records.filter(state="in_doubt").update(effect_begun_at=two_hours_ago)
    records.filter(state="succeeded").update(expires_at=two_hours_ago)
    told = gauges(registry)
    assert told["records", "in_doubt"] == 1
    assert told["records", "failed"] == told["parked_messages", "gave_up"] == 0
    for name in (("oldest_age_seconds", "in_doubt"), ("purge_lag_seconds",)):
        assert 7200 <= told[name] < 7500


@pytest.mark.django_db(transaction=True, databases=["default", "asked"])
def test_a_database_that_is_away_hides_no_counter(connected, scope, caplog, monkeypatch):
    registry = CollectorRegistry()
    registry.register(prometheus.StateCollector("asked"))
    registry.register(prometheus.ANSWERS)
    execute(lambda: None, key="one", scope=scope)
    away = connections["asked"]
    away.close()
    monkeypatch.setitem(away.settings_dict, "PORT", 1)
    told = generate_latest(registry).decode()
    assert f'scope="{scope}"' in told
    assert "idempotency_records{" not in told
    assert "Metrics are missing" in caplog.text


@pytest.mark.parametrize("was_open", [True, False])
def test_a_scrape_leaves_the_connection_as_it_was(was_open):
    connection.close()
    if was_open:
        connection.ensure_connection()
    list(prometheus.StateCollector().collect())
    assert (connection.connection is not None) == was_open


def test_all_processes_of_a_prefork_worker_are_scraped_as_one(
    worker, queue, gates, tmp_path, monkeypatch
):
    """By the view of the page on metrics."""
    files = tmp_path / "metrics"
    files.mkdir()
    gates.close("body")
    worker(concurrency=2, PROMETHEUS_MULTIPROC_DIR=files)
    first = [queue.send(transactional.s(key)) for key in ("one", "two")]
    assert len(set(gates.wait_for_arrivals("body", 2, seconds=60))) == 2  # in both processes
    gates.open("body")
    for result in first:
        result.get(timeout=40)
    for key in ("one", "one", "two"):
        queue.send(transactional.s(key)).get(timeout=40)
    queue.send(unclear.s("three")).get(timeout=40, propagate=False)
    queue.wait_empty()

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(files))
    view = names_of(ROOT / "docs/how-to/measure.md")["metrics"]
    scraped = Scraped(view(RequestFactory().get("/metrics")).content.decode())
    effects = Effect.objects.filter(note="effect").count()
    came = answers("tests.jobs.tasks.transactional", scraped)
    assert came == {"succeeded": effects, "replayed": 5 - effects}
    assert answers("tests.jobs.tasks.unclear", scraped) == {"in_doubt": 1}
    assert gauges(scraped)["records", "in_doubt"] == 1
    assert len(list(files.glob("counter_*.db"))) >= 2


@override_settings(IDEMPOTENCY={"STORE_KEY": True})
def test_a_key_that_is_kept_is_no_label_either(connected, scope):
    execute(lambda: None, key="hunter2", scope=scope)
    assert "hunter2" not in generate_latest(REGISTRY).decode()
