"""Prometheus: what deliveries came to, and what waits.

``connect()`` belongs into the ``ready()`` of an app of yours, so that every process counts.
``StateCollector`` belongs into the one process that is scraped.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from idempotency.backlog import Due, Waiting, due, parked, waiting
from idempotency.contrib import measures
from idempotency.contrib.measures import asked, listen, scope_label, seconds
from idempotency.signals import Told

LABELS = ("scope", "outcome")

ANSWERS = Counter("idempotency_answers_total", measures.ANSWERS, LABELS)
BODY = Histogram(
    "idempotency_body_duration_seconds", measures.BODY, LABELS, buckets=measures.BUCKETS
)


def connect() -> None:
    """Count from now on, in this process and in those that it forks. Safe to call twice."""
    listen(_count, name=__name__)


def _count(outcome: str, about: Told) -> None:
    labels = (scope_label(about["scope"]), outcome)
    ANSWERS.labels(*labels).inc()
    duration = about["duration"]
    if duration is not None:
        BODY.labels(*labels).observe(duration.total_seconds())


def _found(using: str) -> tuple[dict[str, Waiting], dict[str, Waiting], Due]:
    return waiting(using), parked(using), due(using)


class StateCollector(Collector):
    """Gauges that are read from the database at each scrape: ``registry.register(...)``.

    Args:
        using: Database alias. Default: the setting ``DATABASE``.
    """

    def __init__(self, using: str | None = None) -> None:
        self._using = using

    def describe(self) -> Iterator[Metric]:
        """Without asking the database: a registry that is made at import has none yet."""
        return iter(self._families())

    def collect(self) -> Iterator[Metric]:
        """Nothing if the database is away: what was counted is served all the same."""
        found = asked(_found, self._using)
        if found is None:
            return
        states, reasons, forgotten = found
        records, oldest, messages, lag = self._families()
        for name, told in states.items():
            records.add_metric([name], told.number)
            oldest.add_metric([name], seconds(told.age))
        for reason, told in reasons.items():
            messages.add_metric([reason], told.number)
        lag.add_metric([], seconds(forgotten.lag))
        yield from (records, oldest, messages, lag)

    def _families(self) -> list[GaugeMetricFamily]:
        return [
            GaugeMetricFamily("idempotency_records", measures.RECORDS, labels=["state"]),
            GaugeMetricFamily("idempotency_oldest_age_seconds", measures.OLDEST, labels=["state"]),
            GaugeMetricFamily("idempotency_parked_messages", measures.MESSAGES, labels=["reason"]),
            GaugeMetricFamily("idempotency_purge_lag_seconds", measures.LAG, labels=[]),
        ]
