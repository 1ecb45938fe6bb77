"""What waits: for a delivery, for somebody, for the next purge.

Each of these costs the same whatever the tables hold: what is counted is found by an index, and has
an end.
"""

from __future__ import annotations

from dataclasses import dataclass
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

from idempotency.maintenance import forgotten
from idempotency.models import IdempotencyRecord, ParkedMessage, Reason
from idempotency.querysets import RecordQuerySet, time_since
from idempotency.states import State

#: No count of what waits goes further: a job that fails all the time leaves millions.
CAP = 10_000
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
