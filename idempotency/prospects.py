"""What comes next for a key: one answer, for the commands and for the admin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from idempotency.conf import conf
from idempotency.models import IdempotencyRecord
from idempotency.policies import ASK, TRANSACTIONAL, OnDoubt
from idempotency.states import State


class Act(Enum):
    """What an operator can do about a record."""

    RESOLVE = "resolve"
    ALLOW_AGAIN = "allow again"


@dataclass(frozen=True, slots=True)
class Prospect:
    """What comes next.

    Attributes:
        sentence: What the next delivery, the sweeper or the provider does.
        waits_for: What an operator has to do before anything runs; None if it waits for nobody.
    """

    sentence: str
    waits_for: Act | None = None


def what_next(record: IdempotencyRecord, now: datetime) -> Prospect:
    """What comes next for the key of a record: the judgement of ``Run.judge()``, in words.

    Args:
        now: The database's clock: it alone decides leases and expiry.
    """
    settled = record.state in (State.SUCCEEDED, State.FAILED) and record.exhausted_at is None
    if settled and record.expires_at <= now:
        said = _("It is forgotten, since %(ago)s: the next delivery runs, as if it were the first.")
        return Prospect(said % {"ago": spoken(now - record.expires_at)})
    if record.state == State.SUCCEEDED:
        return Prospect(_succeeded(record))
    if record.exhausted_at is not None:
        said = ngettext(
            "No delivery runs it: %(deaths)s attempt has died. Find out what kills it, then allow "
            "it again.",
            "No delivery runs it: %(deaths)s attempts have died. Find out what kills it, then "
            "allow it again.",
            record.deaths or 0,
        )
        return Prospect(said % {"deaths": record.deaths or 0}, Act.ALLOW_AGAIN)
    if record.state == State.IN_DOUBT:
        return _in_doubt(record, now)
    if is_leased(record, now):
        left = spoken(record.lease_expires_at - now) if record.lease_expires_at else ""
        said = _(
            "It is running, and busy to every other delivery. Its lease runs out in %(left)s, "
            "unless it is renewed. After that: %(then)s"
        )
        return Prospect(said % {"left": left, "then": _unsettled(record, now)})
    return Prospect(_unsettled(record, now))


def is_leased(record: IdempotencyRecord, now: datetime) -> bool:
    """Whether it is running under a lease that has not run out."""
    until = record.lease_expires_at
    return record.state == State.RUNNING and until is not None and until > now


def has_lapsed(record: IdempotencyRecord, now: datetime) -> bool:
    """Whether it is said to be running, but its lease has run out."""
    return record.state == State.RUNNING and not is_leased(record, now)


def _succeeded(record: IdempotencyRecord) -> str:
    if record.result is not None:
        return _("A duplicate is answered with the result; the body does not run.")
    return _(
        "A duplicate is answered without a result, for none is stored; the body does not run. "
        "A next step that needs the result gets ResultNotStored."
    )


def _in_doubt(record: IdempotencyRecord, now: datetime) -> Prospect:
    if record.policy != ASK:
        said = _("Deliveries are parked. It waits until somebody says what happened.")
        return Prospect(said, Act.RESOLVE)
    if record.lease_expires_at is not None and record.lease_expires_at > now:
        said = _(
            "The provider may still be at work: in %(left)s, the next delivery or the sweeper asks."
        )
        return Prospect(said % {"left": spoken(record.lease_expires_at - now)})
    said = _(
        "The next delivery and the sweeper ask the provider. It waits until that can tell, or "
        "until somebody says what happened."
    )
    return Prospect(said, Act.RESOLVE)


def _unsettled(record: IdempotencyRecord, now: datetime) -> str:
    """What comes of one that failed, or that ended without a word."""
    said = _next_delivery(record, now)
    # A start note over an effect that may be repeated looks like the claim that had that effect.
    is_repeat = record.policy == OnDoubt.RETRY.value and record.effect_begun_at is not None
    if record.state == State.RUNNING and (is_repeat or record.policy == TRANSACTIONAL):
        busy = _("While a transaction is open under its key, it is busy to every other delivery.")
        return f"{said} {busy}"
    return said


def _next_delivery(record: IdempotencyRecord, now: datetime) -> str:
    begun = record.effect_begun_at is not None
    knows_repeat = record.repeat_until is None or record.repeat_until > now
    is_repeated = begun and record.policy == OnDoubt.RETRY.value and knows_repeat
    if begun and not is_repeated:
        said = _("The next delivery, or the sweeper, finds a doubt: its effect had begun.")
        asked = _("Then the provider is asked.")
        return f"{said} {asked}" if record.policy == ASK else said
    deaths = (record.deaths or 0) + (record.state == State.RUNNING)
    if deaths >= conf().MAX_REDELIVERIES:
        said = (
            ngettext(
                "The next delivery finds a doubt: its effect had begun, and %(deaths)s has died.",
                "The next delivery finds a doubt: its effect had begun, and %(deaths)s have died.",
                deaths,
            )
            if begun
            else ngettext(
                "The next delivery finds it exhausted: %(deaths)s attempt has died.",
                "The next delivery finds it exhausted: %(deaths)s attempts have died.",
                deaths,
            )
        )
        return said % {"deaths": deaths}
    if is_repeated:
        return _("The next delivery runs, and repeats the effect with the same provider key.")
    if record.state == State.RUNNING and record.policy == TRANSACTIONAL:
        return _("The next delivery runs: all that this one did is rolled back.")
    return _("The next delivery runs.")


def spoken(duration: timedelta) -> str:
    """A duration for people, in one unit: ``41 s``, ``3 min``, ``2 h``, ``5 d``.

    The symbols are the same in every language. (BIPM, SI brochure, tables 2 and 8)
    """
    seconds = max(duration.total_seconds(), 0.0)
    if seconds < 10:
        return f"{number_format(round(seconds, 1), 1) if seconds % 1 else int(seconds)} s"
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
