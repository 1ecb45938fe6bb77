"""How states, times and texts look: class names and no style, everything escaped."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from idempotency.conf import conf
from idempotency.models import IdempotencyRecord
from idempotency.prospects import has_lapsed, spoken
from idempotency.states import State
from idempotency.storage import storage_for

#: What a page shows of a text; ``idempotency_show --json`` prints all of it.
LENGTH = 10_000


@dataclass(frozen=True, slots=True)
class Look:
    """How a state is told from the others: by word, by shape, by colour."""

    word: str | Promise
    shape: str
    tone: str


LOOKS = {
    "in_doubt": Look(gettext_lazy("in doubt"), "▲", "bad"),
    "lapsed": Look(gettext_lazy("lease has run out"), "◇", "warn"),
    "exhausted": Look(gettext_lazy("exhausted"), "◆", "bad"),
    "failed": Look(gettext_lazy("failed"), "■", "warn"),
    "running": Look(gettext_lazy("running"), "▶", "quiet"),
    "succeeded": Look(gettext_lazy("succeeded"), "●", "good"),
}


def look_of(record: IdempotencyRecord) -> Look:
    """The look of a record, as of when it was read."""
    if record.exhausted_at is not None:
        return LOOKS["exhausted"]
    if record.state == State.RUNNING and has_lapsed(record, record.seen_at):
        return LOOKS["lapsed"]
    return LOOKS[record.state]


def grouped(number: int) -> str:
    """A number as the reader's language writes it: ``10,000``."""
    return number_format(number, force_grouping=True)


def badge(look: Look) -> SafeString:
    """A state, for those who see no colour too."""
    return format_html(
        '<span class="idempotency-badge idempotency-{}"><span aria-hidden="true">{}</span> '
        "{}</span>",
        look.tone,
        look.shape,
        look.word,
    )


def detailed(text: str, detail: str) -> SafeString:
    """A text, and under it in small what tells more."""
    return format_html('{} <small class="idempotency-detail">{}</small>', text, detail)


def breakable(name: str) -> SafeString:
    """A dotted name that may go on in the next line after each dot and underscore."""
    parts = re.split(r"(?<=[._])", name)
    return format_html_join(SafeString("<wbr>"), "{}", ((part,) for part in parts))


def utc(at: datetime) -> datetime:
    """An instant of ours in UTC, with or without USE_TZ."""
    return storage_for(conf().DATABASE).in_utc(at)


def relative(at: datetime, now: datetime) -> str:
    """How far an instant is from now."""
    if at > now:
        return _("in %(span)s") % {"span": spoken(at - now)}
    return _("%(span)s ago") % {"span": spoken(now - at)}


def instant(at: datetime | None, now: datetime) -> SafeString | str:
    """An instant as people think of it, and exactly."""
    if at is None:
        return "-"
    exact = utc(at)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        exact.isoformat().replace("+00:00", "Z"),
        f"{exact:%Y-%m-%d %H:%M:%S} UTC",
        relative(at, now),
    )


def copyable(text: str) -> SafeString:
    """A text that a script puts a copy button behind; without one, a click selects all of it."""
    return format_html(
        '<code class="idempotency-copy" data-copy="{}" data-copied="{}">{}</code>',
        _("Copy"),
        _("Copied"),
        text,
    )


@dataclass(frozen=True, slots=True)
class Text:
    """A text of the job's, as much of it as is shown."""

    title: str | Promise
    text: str

    @property
    def shown(self) -> str:
        return self.text[:LENGTH]

    @property
    def size(self) -> int:
        return len(self.text)

    @property
    def is_cut(self) -> bool:
        return self.size > LENGTH
