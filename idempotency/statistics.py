"""What was delivered: by hour and scope for a page, one by one for a report; how often a duplicate
really happens.

:func:`traffic` costs the same whatever the tables hold; :func:`redelivery_rates` does not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Min, Q
from django.db.models.functions import Now

from idempotency.conf import conf
from idempotency.events import PER_MINUTE
from idempotency.models import IdempotencyEvent, IdempotencyRecord, Kind
from idempotency.states import State
from idempotency.storage.tails import EVENTS, RECORDS, Row, tail

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
#: So many scopes are told apart, those with the most rows.
SCOPES = 20


@dataclass(slots=True, kw_only=True)
class Scope:
    """What came to one scope in a period.

    Attributes:
        name: None: all the scopes together that are not told apart.
        records: Those made, by hour; 0 is the oldest.
        duplicates: Those answered with the result of the first one, by hour.
        succeeded: How many of the records have succeeded by now.
        failures: Runs that raised.
        redelivered: Of the duplicates, how many the broker said it had delivered before.
        deferrals: How often a message found its key busy, and was published again for later.
    """

    name: str | None
    records: Counter[int] = field(default_factory=Counter)
    duplicates: Counter[int] = field(default_factory=Counter)
    succeeded: int = 0
    failures: int = 0
    redelivered: int = 0
    deferrals: int = 0

    @property
    def deliveries(self) -> int:
        """Runs that succeeded, runs that failed, and duplicates."""
        return self.succeeded + self.failures + self.duplicates.total()

    @property
    def one_in(self) -> float | None:
        """One in so many deliveries was a duplicate; None when none was."""
        duplicates = self.duplicates.total()
        return self.deliveries / duplicates if duplicates else None

    def add(self, other: Scope) -> None:
        """Count what came to another one too."""
        self.records += other.records
        self.duplicates += other.duplicates
        self.succeeded += other.succeeded
        self.failures += other.failures
        self.redelivered += other.redelivered
        self.deferrals += other.deferrals


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What came in a period.

    Attributes:
        begin: Of the period, in UTC, by the clock of the database.
        hours: How many the period has; the last one may be shorter.
        scopes: The busiest first, those that are not told apart last.
        is_estimate: Whether there was more than is counted one by one: then each number is about
            right, and a scope with a few rows among so many may be missing.
    """

    begin: datetime
    hours: int
    scopes: list[Scope]
    is_estimate: bool

    @property
    def total(self) -> Scope:
        """All scopes together."""
        total = Scope(name=None)
        for scope in self.scopes:
            total.add(scope)
        return total


def traffic(using: str, *, period: timedelta = DAY) -> Traffic:
    """What came to each scope until now: four statements, along the primary keys.

    Not seen: what :func:`redelivery_rates` does not see, and the success of a record that was made
    before the period.
    """
    hours = -(-period // HOUR)
    records, events = tail(using, RECORDS, period), tail(using, EVENTS, period)
    scopes = _told_apart([*records.rows, *events.rows])
    for row in records.rows:
        scope = scopes[row.scope]
        scope.records[min(row.hour, hours - 1)] += row.number
        scope.succeeded += row.number * (row.kind == State.SUCCEEDED)
    for row in events.rows:
        scope = scopes[row.scope]
        scope.failures += row.number * (row.kind == Kind.FAILED)
        scope.deferrals += row.number * (row.kind == Kind.DEFERRED)
        if row.kind == Kind.DUPLICATE:
            scope.duplicates[min(row.hour, hours - 1)] += row.number
            scope.redelivered += row.number * row.redelivered
    busiest = sorted(
        {scope.name: scope for scope in scopes.values()}.values(),
        key=lambda scope: (scope.name is None, -scope.deliveries, scope.name or ""),
    )
    is_estimate = max(records.weight, events.weight) > 1
    begin = records.until - period
    return Traffic(begin=begin, hours=hours, scopes=busiest, is_estimate=is_estimate)


def _told_apart(rows: list[Row]) -> dict[str, Scope]:
    """Where each scope is counted. Chosen once, of both tables: a rate needs the rows of both."""
    numbers: Counter[str] = Counter()
    for row in rows:
        numbers[row.scope] += row.number
    most = set(sorted(numbers, key=lambda name: (-numbers[name], name))[:SCOPES])
    others = Scope(name=None)
    return {name: Scope(name=name) if name in most else others for name in numbers}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What was delivered to one scope within a period, as far as it left a trace.

    Attributes:
        scope: What the keys are unique within: usually one task.
        deliveries: Runs that succeeded, runs that failed, and duplicates. A message that found
            its key busy is counted once, when it is answered or runs.
        duplicates: Of these, how many came after the success and were answered with its result.
        redelivered: Of the duplicates, how many the broker said it had delivered before. The
            others were published twice, or come from a broker that never says so.
        is_lower_bound: Whether one key had so many duplicates or failures that not each of them
            may have been written down: then there were at least so many.
    """

    scope: str
    deliveries: int
    duplicates: int
    redelivered: int
    is_lower_bound: bool

    @property
    def one_in(self) -> float | None:
        """One in so many deliveries was a duplicate; None when none was."""
        return self.deliveries / self.duplicates if self.duplicates else None


def redelivery_rates(*, since: timedelta | datetime, using: str | None = None) -> list[Rate]:
    """How often a duplicate came, for each scope that had a delivery, by scope.

    Not seen, so that the true number is larger: a first delivery that died without a trace (the
    one after it looks like the first), what a process has not written down yet (a second at most,
    which a killed one has lost), a duplicate inside of another call's transaction, and a duplicate
    outside of Celery that was refused because its key was busy.

    It counts one by one, and reads both tables to their end: for a report, not for a page.

    Args:
        since: The beginning of the period, or its length until now. Shorter than the retention:
            purged records are not counted, and their duplicates are.
        using: Database alias. Default: the setting ``DATABASE``.
    """
    using = using or conf().DATABASE
    begin = Now() - since if isinstance(since, timedelta) else since
    succeeded = (
        IdempotencyRecord.objects.using(using)
        .filter(state=State.SUCCEEDED, settled_at__gte=begin)
        .order_by()
    )
    told = (
        IdempotencyEvent.objects.using(using)
        .filter(kind__in=[Kind.DUPLICATE, Kind.FAILED], at__gte=begin)
        .order_by()
    )
    successes = dict(succeeded.values_list("scope").annotate(Count("id")))
    counts = {
        scope: numbers
        for scope, *numbers in told.values_list("scope").annotate(
            Count("id"),
            duplicates=Count("id", filter=Q(kind=Kind.DUPLICATE)),
            redelivered=Count("id", filter=Q(kind=Kind.DUPLICATE, redelivered=True)),
        )
    }
    sampled = _sampled(told)
    rates = []
    for scope in sorted(successes.keys() | counts.keys()):
        events, duplicates, redelivered = counts.get(scope, (0, 0, 0))
        rates.append(
            Rate(
                scope=scope,
                deliveries=successes.get(scope, 0) + events,
                duplicates=duplicates,
                redelivered=redelivered,
                is_lower_bound=scope in sampled,
            )
        )
    return rates


def _sampled(told: Any) -> set[str]:
    """Scopes with a key that may have reached the limit of what is written of it in a minute."""
    # By the hash alone, so that the database need not sort: a key has one scope.
    keys = told.values("key_hash", "kind").annotate(number=Count("id"), its_scope=Min("scope"))
    return set(keys.filter(number__gte=PER_MINUTE).values_list("its_scope", flat=True))
