"""What needs somebody: how much of it there is, and for how long it has been waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from django.db import connections
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from idempotency.admin.display import LOOKS, Look, grouped, instant
from idempotency.backlog import Waiting, parked, waiting
from idempotency.models import Reason
from idempotency.prospects import spoken
from idempotency.storage.server import held_locks

#: A transactional body that runs for so long is worth a look.
LONG = timedelta(minutes=1)
LOCKS = 10


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
    """What needs attention now: ten statements, each on an index or on a table that is small.

    Args:
        address: Makes the address of a page of the admin, by its name and a query.
    """
    records = partial(address, "idempotency_idempotencyrecord_changelist")
    parked = partial(address, "idempotency_parkedmessage_changelist")
    return [*_records(using, records), *_messages(using, parked), *_locks(using, records)]


def _records(using: str, address: Callable[..., str]) -> Iterator[Item]:
    found = waiting(using)
    for name in ("in_doubt", "lapsed", "exhausted", "failed"):
        yield from _item(LOOKS[name], found[name], address(state=name))


def _messages(using: str, address: Callable[..., str]) -> Iterator[Item]:
    found = parked(using)
    given_up = found.pop(Reason.GAVE_UP)
    here = address(reason__exact=Reason.GAVE_UP.value)
    yield from _item(Look(_("given up"), "■", "warn"), given_up, here)
    others = Waiting(
        number=sum(each.number for each in found.values()),
        oldest=min((each.oldest for each in found.values() if each.oldest), default=None),
        age=max((each.age for each in found.values() if each.age), default=None),
        is_cut=any(each.is_cut for each in found.values()),
    )
    word = ngettext("parked message", "parked messages", others.number)
    yield from _item(Look(word, "▪", "quiet"), others, address())


def _item(look: Look, found: Waiting, url: str) -> Iterator[Item]:
    if found.oldest is None or found.age is None:
        return
    shown = f"{grouped(found.number)}{'+' if found.is_cut else ''}"
    age = instant(found.oldest, found.oldest + found.age)
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
