"""The numbers of the dashboard, the command and the metrics; how often a duplicate really happens.

All but :func:`redelivery_rates` cost the same whatever the tables hold: what is counted is found by
an index, and has an end.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import (
    Case,
    Count,
    FloatField,
    Max,
    Min,
    Q,
    Subquery,
    Sum,
    Value,
    When,
)
from django.db.models.functions import Now

from idempotency.conf import conf
from idempotency.events import PER_MINUTE
from idempotency.maintenance import forgotten
from idempotency.models import IdempotencyEvent, IdempotencyRecord, Kind, ParkedMessage, Reason
from idempotency.querysets import RecordQuerySet, time_since
from idempotency.states import State
from idempotency.storage.tails import EVENTS, RECORDS, Row, tail

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
#: No count of what waits goes further: a job that fails all the time leaves millions.
CAP = 10_000
#: So many scopes are told apart, those with the most rows.
SCOPES = 20
#: What a purge would delete is looked for in so many stretches of so many records, at most, and
#: in one more at the head of the table.
STRETCHES = 20
STRETCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How much of something there is.

    Attributes:
        number: At most ``CAP``.
        oldest: When the oldest of these began to wait; None when there is none. What is in doubt,
            when its effect began; what is exhausted, when it was; all others, when they were made.
        age: Of the oldest, by the clock of the database; None when there is none.
        is_cut: Whether there are more than ``CAP`` of it, or of what it is counted or added up
            with.
    """

    number: int
    oldest: datetime | None
    age: timedelta | None
    is_cut: bool


def waiting(using: str) -> dict[str, Waiting]:
    """What has not succeeded, by what the admin calls it: six statements on partial indexes."""
    records = IdempotencyRecord.objects.using(using)
    failed = records.filter(state=State.FAILED)
    running = records.filter(state=State.RUNNING)
    exhausted = _counted(failed.exhausted(), since="exhausted_at")
    return {
        "in_doubt": _counted(records.filter(state=State.IN_DOUBT), since="effect_begun_at"),
        # Behind all that runs, which is no more than the workers can do at once.
        "lapsed": _counted(records.lapsed()),
        # Not by a filter: of what has lapsed there may be any number in front.
        "running": _counted(running, only=Q(lease_expires_at__gt=Now())),
        "exhausted": exhausted,
        "failed": _failed(failed, exhausted),
    }


def _failed(failed: RecordQuerySet, exhausted: Waiting) -> Waiting:
    """Counted in the index alone, in which the exhausted ones are too: they are so many, and lie so
    far apart, that to read each row would take most of a page's time.

    What is exhausted beyond ``CAP`` cannot be told from the others here, and counts as failed.
    """
    others = failed.filter(exhausted_at=None).order_by("id")
    oldest, age = others.values_list("created_at", time_since("created_at")).first() or (None, None)
    if oldest is None:
        return Waiting(number=0, oldest=None, age=None, is_cut=False)
    read = failed.order_by("id")[: CAP + exhausted.number + 1].count()
    number = max(read - exhausted.number, 0)
    is_cut = number > CAP or exhausted.is_cut
    return Waiting(number=min(number, CAP), oldest=oldest, age=age, is_cut=is_cut)


def parked(using: str) -> dict[str, Waiting]:
    """The messages that wait, by their reason: a statement for each, on a table that is small."""
    messages = ParkedMessage.objects.using(using)
    return {reason.value: _counted(messages.filter(reason=reason)) for reason in Reason}


def _counted(rows: Any, *, since: str = "created_at", only: Q | None = None) -> Waiting:
    """In the order of the index, the oldest first: a count that is cut still knows the oldest.

    Args:
        since: The column that says for how long one has been waiting. A key that is run again keeps
            its record and its place in the index: what is oldest is so among those that are read.
        only: Which of the rows that are read count.
    """
    told = rows.order_by("id")[: CAP + 1].aggregate(
        read=Count("pk"),
        number=Count("pk", filter=only),
        oldest=Min(since, filter=only),
        age=Max(time_since(since), filter=only),
    )
    return Waiting(
        number=min(told["number"], CAP),
        oldest=told["oldest"],
        age=told["age"],
        is_cut=told["read"] > CAP,
    )


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
class Due:
    """What the next purge would delete.

    Attributes:
        records: Settled records that are forgotten.
        lag: For how long the oldest of those that were looked at has been forgotten; None: none
            is. Much more than the time between two purges: they are too few, or none runs.
        is_estimate: Whether the table was looked at in samples.
    """

    records: int
    lag: timedelta | None
    is_estimate: bool


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Records that are looked at: those behind the id ``low``, up to ``end``.

    Attributes:
        weight: For how many records each of them stands.
    """

    low: int
    end: int
    weight: float = 1


def due(using: str) -> Due:
    """How far the purge lags behind: three statements at most, along the primary key."""
    stretches = _stretches(using)
    if not stretches:
        return Due(records=0, lag=None, is_estimate=False)
    looked_at, weights = Q(), []
    for each in stretches:
        looked_at |= Q(pk__gt=each.low, pk__lte=each.end)
        weights.append(When(pk__lte=each.end, then=Value(each.weight)))
    number = Sum(Case(*weights, output_field=FloatField()), default=0.0)
    records = forgotten(using).filter(looked_at).order_by()
    found = records.aggregate(number=number, lag=Max(time_since("expires_at")))
    is_estimate = any(each.weight != 1 for each in stretches)
    return Due(records=round(found["number"]), lag=found["lag"], is_estimate=is_estimate)


def _stretches(using: str) -> list[_Stretch]:
    """The head of the table, and of each of so many parts behind it.

    By rows, for ids have gaps: a record that is never purged may be left far in front of all.
    """
    rows = IdempotencyRecord.objects.using(using).order_by("pk")
    first, head, last = _ids(rows, [rows, rows[STRETCH - 1 :], rows.order_by("-pk")])
    if first is None or last is None:
        return []
    if head is None:
        return [_Stretch(first - 1, last)]
    step = max(-(-(last - head) // STRETCHES), 1)
    parts = [(low, min(low + step, last)) for low in range(head, last, step)]
    asked = [rows.filter(pk__gt=low, pk__lte=high) for low, high in parts]
    ids = _ids(rows, [*asked, *(part[STRETCH - 1 :] for part in asked)])
    told = zip(parts, ids[: len(parts)], ids[len(parts) :], strict=True)
    behind = [_stretch(*each) for each in told]
    return [_Stretch(first - 1, head), *behind]


def _stretch(part: tuple[int, int], begin: int | None, end: int | None) -> _Stretch:
    """Of a part that is read to its end, each record stands for itself."""
    low, high = part
    if begin is None or end is None:
        return _Stretch(low, high)
    return _Stretch(low, end, (high - begin + 1) / (end - begin + 1))


def _ids(rows: RecordQuerySet, asked: list[RecordQuerySet]) -> list[int | None]:
    """The first id of each, in one statement."""
    if not asked:
        return []
    found = rows.values_list(*(Subquery(each.values("pk")[:1]) for each in asked)).first()
    return list(found or [None] * len(asked))


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
