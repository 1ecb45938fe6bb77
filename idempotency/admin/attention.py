"""What needs somebody: how much of it there is, and for how long it has been waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import connections
from django.db.models import Count, Min, Q
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from idempotency.admin.display import LOOKS, Look, instant
from idempotency.admin.filters import narrowed
from idempotency.models import IdempotencyRecord, ParkedMessage, Reason
from idempotency.prospects import spoken
from idempotency.states import State
from idempotency.storage.server import held_locks

#: No count goes further: a job that fails all the time leaves millions.
CAP = 10_000
#: A transactional body that runs for so long is worth a look.
LONG = timedelta(minutes=1)
LOCKS = 10

GIVEN_UP = Q(reason=Reason.GAVE_UP)
EXHAUSTED = Q(exhausted_at__isnull=False)


@dataclass(frozen=True, slots=True)
class Item:
    """A link to what waits.

    Attributes:
        url: Empty: the site has no page for it.
    """

    look: Look
    label: str
    detail: SafeString | str
    url: str


def attention(using: str, address: Callable[..., str]) -> list[Item]:
    """What needs attention now: five statements, each on an index or on a table that is small.

    Args:
        address: Makes the address of a page of the admin, by its name and a query.
    """
    records = partial(address, "idempotency_idempotencyrecord_changelist")
    parked = partial(address, "idempotency_parkedmessage_changelist")
    return [*_records(using, records), *_messages(using, parked), *_locks(using, records)]


def _records(using: str, address: Callable[..., str]) -> Iterator[Item]:
    records = IdempotencyRecord.objects.using(using)
    for name in ("in_doubt", "lapsed"):
        told = _told(narrowed(records, name))
        yield from _item(LOOKS[name], told["number"], told["oldest"], address(state=name))
    failed = _told(
        records.filter(state=State.FAILED),
        exhausted=Count("pk", filter=EXHAUSTED),
        oldest_exhausted=Min("created_at", filter=EXHAUSTED),
        others=Count("pk", filter=~EXHAUSTED),
        oldest_other=Min("created_at", filter=~EXHAUSTED),
    )
    is_cut = failed["number"] > CAP
    for name, number, oldest in (
        ("exhausted", failed["exhausted"], failed["oldest_exhausted"]),
        ("failed", failed["others"], failed["oldest_other"]),
    ):
        yield from _item(LOOKS[name], number, oldest, address(state=name), is_cut=is_cut)


def _messages(using: str, address: Callable[..., str]) -> Iterator[Item]:
    parked = _told(
        ParkedMessage.objects.using(using),
        given_up=Count("pk", filter=GIVEN_UP),
        oldest_given_up=Min("created_at", filter=GIVEN_UP),
        others=Count("pk", filter=~GIVEN_UP),
        oldest_other=Min("created_at", filter=~GIVEN_UP),
    )
    is_cut = parked["number"] > CAP
    given_up = (parked["given_up"], parked["oldest_given_up"])
    here = address(reason__exact=Reason.GAVE_UP.value)
    yield from _item(Look(_("given up"), "■", "warn"), *given_up, here, is_cut=is_cut)
    others = (parked["others"], parked["oldest_other"])
    yield from _item(Look(_("parked messages"), "▪", "quiet"), *others, address(), is_cut=is_cut)


def _told(rows: Any, **more: Any) -> dict[str, Any]:
    """In the order of the index, the oldest first: a count that is cut still knows the oldest."""
    told: dict[str, Any] = rows.order_by("id")[: CAP + 1].aggregate(
        number=Count("pk"), oldest=Min("created_at"), **more
    )
    return told


def _item(
    look: Look,
    number: int,
    oldest: datetime | None,
    url: str,
    *,
    is_cut: bool = False,
) -> Iterator[Item]:
    if oldest is None:
        return
    shown = f"{min(number, CAP):,}{'+' if is_cut or number > CAP else ''}"
    # An age for people decides nothing, so that this clock may be off.
    age = instant(oldest, timezone.now())
    detail = format_html("{} {}", _("oldest"), age)
    yield Item(look, f"{shown} {look.word}", detail, url)


def _locks(using: str, address: Callable[..., str]) -> Iterator[Item]:
    if connections[using].vendor != "postgresql":
        return
    look = Look("", "▶", "quiet")
    for lock in held_locks(using, longer_than=LONG, limit=LOCKS):
        label = _("lock held by pid %(pid)s") % {"pid": lock.pid}
        detail = _("for %(span)s") % {"span": spoken(lock.age)}
        yield Item(look, label, detail, address(q=lock.digits))
