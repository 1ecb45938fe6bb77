"""What the operator is told after records were settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.contrib import messages
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from idempotency.admin.display import grouped
from idempotency.admin.operations import SKIPPED, Operation, Outcome
from idempotency.parking import Published

Told = Iterator[tuple[int, str]]


def told(operation: Operation, outcomes: list[Outcome], gone: int, published: Published) -> Told:
    """How many were changed, how many were not, and why; what has become of their messages.

    Args:
        gone: How many were shown and are not there any more.

    Returns:
        Levels of Django's messages, each with what is said.
    """
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if done := len(outcomes) - len(errors):
        said = ngettext(
            "%(operation)s: %(number)s record.", "%(operation)s: %(number)s records.", done
        )
        yield messages.INFO, said % {"operation": operation.label, "number": grouped(done)}
    whys: Counter[Any] = Counter(SKIPPED[type(e)] for e in errors if type(e) in SKIPPED)
    if gone:
        whys[_("not there any more")] = gone
    for why, number in whys.items():
        said = ngettext(
            "%(number)s record skipped: %(why)s.", "%(number)s records skipped: %(why)s.", number
        )
        yield messages.WARNING, said % {"number": grouped(number), "why": why}
    failed = Counter(type(e).__name__ for e in errors if type(e) not in SKIPPED)
    for error, number in failed.items():
        said = ngettext(
            "%(number)s record failed with %(error)s: look at the log, and at the record.",
            "%(number)s records failed with %(error)s: look at the log, and at each.",
            number,
        )
        yield messages.ERROR, said % {"number": grouped(number), "error": error}
    if lacking := sum(not outcome.has_history for outcome in outcomes):
        said = ngettext(
            "The history of %(number)s record lacks this, for an error that is in the log. The "
            "events have it.",
            "The history of %(number)s records lacks this, for an error that is in the log. The "
            "events have it.",
            lacking,
        )
        yield messages.WARNING, said % {"number": grouped(lacking)}
    yield from _told_of_messages(published)


def _told_of_messages(done: Published) -> Told:
    if done.published:
        said = ngettext(
            "%(number)s parked message published.",
            "%(number)s parked messages published.",
            done.published,
        )
        yield messages.INFO, said % {"number": grouped(done.published)}
    if done.waiting:
        said = ngettext(
            "%(number)s parked message not published, for an error that is in the log. What was "
            "said of the records stands; the message is kept, and the sweeper publishes it: "
            "idempotency_sweep.",
            "%(number)s parked messages not published, for an error that is in the log. What was "
            "said of the records stands; the messages are kept, and the sweeper publishes them: "
            "idempotency_sweep.",
            done.waiting,
        )
        yield messages.WARNING, said % {"number": grouped(done.waiting)}
    if done.not_kept:
        said = ngettext(
            "%(number)s message not kept: send it again yourself.",
            "%(number)s messages not kept: send them again yourself.",
            done.not_kept,
        )
        yield messages.WARNING, said % {"number": grouped(done.not_kept)}
