"""What happened to a key, in the order in which it happened: why did this run twice?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.utils.formats import number_format
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from idempotency.admin.display import instant, utc
from idempotency.models import IdempotencyEvent, IdempotencyRecord, Kind
from idempotency.prospects import spoken
from idempotency.redaction import redact
from idempotency.states import State

#: Of so many events a page tells; the list of events has the others.
EVENTS = 200

#: Events that say how a record came to be settled.
ENDS = frozenset({Kind.FAILED, Kind.EXHAUSTED, Kind.RESOLVED, Kind.RELEASED, Kind.ALLOWED_AGAIN})
TONES: dict[str, str] = {
    Kind.IN_DOUBT: "bad",
    Kind.EXHAUSTED: "bad",
    Kind.FAILED: "warn",
    Kind.LEASE_LOST: "warn",
    Kind.RELEASED: "warn",
    Kind.GAVE_UP: "warn",
    Kind.RESOLVED: "good",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened, or that will.

    Attributes:
        facts: Attempt, duration, worker, message, as far as they are known.
        gap: The time since the entry before it.
    """

    at: datetime
    title: str
    facts: tuple[str, ...] = ()
    note: str = ""
    tone: str = "quiet"
    gap: str = ""
    is_ahead: bool = False
    shown_at: str = ""
    exact: str = ""


def story(record: IdempotencyRecord, events: Iterable[IdempotencyEvent]) -> list[Entry]:
    """All that is known, the oldest first. What the record says by itself is in it too."""
    now = record.seen_at
    events = list(events)
    entries = sorted([*_of_record(record, events), *map(_of_event, events)], key=lambda e: e.at)
    told = []
    before: datetime | None = None
    for entry in entries:
        gap = _("%(span)s later") % {"span": spoken(entry.at - before)} if before else ""
        told.append(
            replace(
                entry,
                gap=gap,
                is_ahead=entry.at > now,
                shown_at=instant(entry.at, now),
                exact=f"{utc(entry.at):%Y-%m-%d %H:%M:%S.%f}"[:-3],
            )
        )
        before = entry.at
    return told


def _of_event(event: IdempotencyEvent) -> Entry:
    event = redact(event)
    facts = (
        event.attempt is not None and _("attempt %(number)s") % {"number": event.attempt},
        event.duration is not None and _("ran %(span)s") % {"span": _exactly(event.duration)},
        event.worker and _("on %(worker)s") % {"worker": event.worker},
        event.task_id and _("message %(id)s") % {"id": event.task_id},
        event.redelivered and _("redelivered"),
    )
    return Entry(
        at=event.at,
        title=capfirst(str(dict(Kind.choices).get(event.kind, event.kind))),
        facts=tuple(fact for fact in facts if fact),
        note=event.note,
        tone=TONES.get(event.kind, "quiet"),
    )


def _of_record(record: IdempotencyRecord, events: list[IdempotencyEvent]) -> Iterator[Entry]:
    yield from _beginnings(record)
    settled = record.settled_at
    is_told = any(event.kind in ENDS and event.at >= settled for event in events if settled)
    if settled and record.state == State.SUCCEEDED:
        yield Entry(settled, _("Succeeded"), tone="good")
    elif settled and not is_told:
        yield Entry(settled, _("Failed"), tone="warn", note=record.error_class or "")
    yield from _deadlines(record)


def _beginnings(record: IdempotencyRecord) -> Iterator[Entry]:
    message = [_("message %(id)s") % {"id": record.task_id}] if record.task_id else []
    claimed = record.claimed_at
    if claimed is None or claimed > record.created_at:
        first = message if claimed is None else []
        yield Entry(record.created_at, _("First attempt"), facts=tuple(first))
    if claimed is not None:
        worker = [_("on %(worker)s") % {"worker": record.owner}] if record.owner else []
        attempt = _("attempt %(number)s") % {"number": record.attempt}
        yield Entry(claimed, _("Claimed"), facts=(attempt, *worker, *message))
    if record.effect_begun_at:
        yield Entry(record.effect_begun_at, _("The effect begins"))


def _deadlines(record: IdempotencyRecord) -> Iterator[Entry]:
    now: Any = record.seen_at
    lease, forgets = record.lease_expires_at, record.repeat_until
    if lease:
        yield Entry(lease, _("The lease runs out") if lease > now else _("The lease has run out"))
    if forgets and record.effect_begun_at:
        yield Entry(forgets, _("The provider forgets the provider key"))
    if record.settled_at:
        yield Entry(record.expires_at, _("Forgotten: the key is as good as new"))


def _exactly(duration: timedelta) -> str:
    seconds = round(duration.total_seconds(), 3)  # Django cuts what is too long
    return f"{number_format(seconds, 3, force_grouping=True)} s"
