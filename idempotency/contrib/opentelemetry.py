"""OpenTelemetry: what deliveries came to, on their spans and as metrics; and what waits.

By its API only, which does nothing until the project configures an SDK.

Names follow "Semantic conventions, naming": lower case, in a namespace of our own. Those of the
metrics are the ones that Prometheus' exporter makes into the names of ``contrib.prometheus``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation

from idempotency.backlog import due, parked, waiting
from idempotency.contrib import measures
from idempotency.contrib.measures import asked, listen, scope_label, seconds
from idempotency.signals import Told

meter = metrics.get_meter("idempotency")

answers = meter.create_counter("idempotency.answers", unit="{answer}", description=measures.ANSWERS)
body = meter.create_histogram(
    "idempotency.body.duration",
    unit="s",
    description=measures.BODY,
    explicit_bucket_boundaries_advisory=measures.BUCKETS,
)


def connect() -> None:
    """Tell from now on, in this process and in those that it forks. Safe to call twice."""
    listen(_tell, name=__name__)


def _tell(outcome: str, about: Told) -> None:
    labels = {"scope": scope_label(about["scope"]), "outcome": outcome}
    answers.add(1, labels)
    if about["duration"] is not None:
        body.record(about["duration"].total_seconds(), labels)
    span = trace.get_current_span()
    if not span.is_recording():
        return
    span.set_attribute("idempotency.outcome", outcome)
    span.set_attribute("idempotency.scope", about["scope"])
    span.set_attribute("idempotency.key_hash", about["key_hash"].hex)
    if about["attempt"] is not None:
        span.set_attribute("idempotency.attempt", about["attempt"])


def observe_state(using: str | None = None) -> None:
    """Read what waits from the database at each export: call it in one process, once.

    Args:
        using: Database alias. Default: the setting ``DATABASE``.
    """
    for name, unit, description, observed in GAUGES:
        callback = partial(_observe, observed, using)
        meter.create_observable_gauge(name, [callback], unit, description)


def _observe(
    observed: Callable[[str], list[Observation]], using: str | None, _: CallbackOptions
) -> list[Observation]:
    return asked(observed, using) or []


def _records(using: str) -> list[Observation]:
    return [Observation(told.number, {"state": name}) for name, told in waiting(using).items()]


def _oldest(using: str) -> list[Observation]:
    return [
        Observation(seconds(told.age), {"state": name}) for name, told in waiting(using).items()
    ]


def _messages(using: str) -> list[Observation]:
    return [Observation(told.number, {"reason": name}) for name, told in parked(using).items()]


def _lag(using: str) -> list[Observation]:
    return [Observation(seconds(due(using).lag))]


GAUGES: list[tuple[str, str, str, Callable[[str], list[Observation]]]] = [
    ("idempotency.records", "{record}", measures.RECORDS, _records),
    ("idempotency.oldest.age", "s", measures.OLDEST, _oldest),
    ("idempotency.parked_messages", "{message}", measures.MESSAGES, _messages),
    ("idempotency.purge.lag", "s", measures.LAG, _lag),
]
