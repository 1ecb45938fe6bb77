"""OpenTelemetry: on the span of a delivery stands what it came to, and never its key."""

from uuid import uuid4

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from idempotency import Leased, OnDoubt, execute, signals
from idempotency.contrib import measures, opentelemetry
from idempotency.models import IdempotencyRecord
from tests.jobs.tasks import transactional

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="session")
def reader():
    """The project's SDK, which can be set once in a process: after our module was imported."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
    opentelemetry.observe_state()
    return reader


@pytest.fixture
def connected(reader):
    opentelemetry.connect()
    yield
    for signal in measures.OUTCOMES:
        getattr(signals, signal).disconnect(dispatch_uid=f"{opentelemetry.__name__} {signal}")


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
def tracer(spans):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider.get_tracer("tests")


@pytest.fixture
def scope():
    return f"shop-{uuid4().hex}"


def points(reader):
    """The data points of our metrics: (name, labels, point)."""
    data = reader.get_metrics_data()
    return [
        (metric.name, dict(point.attributes), point)
        for resource in data.resource_metrics
        for scoped in resource.scope_metrics
        for metric in scoped.metrics
        for point in metric.data.data_points
    ]


def fail():
    raise ZeroDivisionError


def test_the_span_of_a_delivery_says_what_it_came_to(connected, spans, tracer, deliver):
    for _ in range(2):
        with tracer.start_as_current_span("run/transactional"):
            deliver(transactional, "hunter2")
    first, second = spans.get_finished_spans()
    about = {
        "idempotency.scope": "tests.jobs.tasks.transactional",
        "idempotency.key_hash": IdempotencyRecord.objects.get().key_hash.hex,
        "idempotency.attempt": 1,
    }
    assert dict(first.attributes) == about | {"idempotency.outcome": "succeeded"}
    assert dict(second.attributes) == about | {"idempotency.outcome": "replayed"}


def test_the_span_of_a_failure_names_its_outcome_and_no_text_of_it(connected, spans, tracer, scope):
    hold = Leased(on_doubt=OnDoubt.HOLD)
    with tracer.start_as_current_span("call"), pytest.raises(ZeroDivisionError):
        execute(fail, key="hunter2", scope=scope, policy=hold)
    [span] = spans.get_finished_spans()
    assert span.attributes["idempotency.outcome"] == "in_doubt"
    assert "hunter2" not in str(dict(span.attributes))


def test_metrics_have_the_labels_that_prometheus_has(connected, reader, scope):
    for _ in range(3):
        execute(lambda: None, key="hunter2", scope=scope)
    came = [
        (name, labels, point)
        for name, labels, point in points(reader)
        if labels.get("scope") == scope
    ]
    counted = {labels["outcome"]: p.value for name, labels, p in came if name.endswith("answers")}
    assert counted == {"succeeded": 1, "replayed": 2}
    [(name, labels, ran)] = [each for each in came if hasattr(each[2], "bucket_counts")]
    assert (name, labels["outcome"], ran.count) == ("idempotency.body.duration", "succeeded", 1)
    assert ran.explicit_bounds == measures.BUCKETS
    assert "hunter2" not in str(came)


def test_what_waits_is_read_at_each_export(reader):
    with pytest.raises(ZeroDivisionError):
        execute(fail, key="one", scope="shop", policy=Leased(on_doubt=OnDoubt.HOLD))
    told = {
        (name, *labels.values()): point.value
        for name, labels, point in points(reader)
        if "outcome" not in labels
    }
    assert told["idempotency.records", "in_doubt"] == 1
    assert told["idempotency.records", "failed"] == 0
    assert told["idempotency.oldest.age", "in_doubt"] > 0
    assert told["idempotency.parked_messages", "gave_up"] == 0
    assert told["idempotency.purge.lag",] == 0


def test_without_a_span_and_without_a_reader_nothing_is_told_and_nothing_fails(scope):
    opentelemetry.connect()
    assert execute(lambda: 7, key="one", scope=scope).result == 7
