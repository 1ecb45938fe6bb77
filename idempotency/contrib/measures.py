"""What the metrics of every library say: the outcome of a delivery, told from our signals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from django.db import DatabaseError, InterfaceError, connections

from idempotency import signals
from idempotency.conf import conf
from idempotency.signals import Told

logger = logging.getLogger("idempotency")

T = TypeVar("T")

#: The signals that tell what a delivery came to, and the value of the label ``outcome``. Public,
#: and never renamed.
OUTCOMES = {
    "attempt_succeeded": "succeeded",
    "attempt_failed": "failed",
    "duplicate_replayed": "replayed",
    "delivery_deferred": "deferred",
    "delivery_given_up": "gave_up",
    "doubt_found": "in_doubt",
    "key_exhausted": "exhausted",
    "lease_lost": "lease_lost",
}

ANSWERS = "What deliveries and calls came to, by outcome and scope."
BODY = "How long bodies ran, in seconds, by outcome and scope."
RECORDS = "Records that have not succeeded, by what they wait for; counted up to 10,000."
OLDEST = (
    "Age of the oldest of these records, in seconds: in doubt since the effect began, exhausted"
    " since it was, all others since they were made."
)
MESSAGES = "Parked messages, by what they wait for; counted up to 10,000."
LAG = "For how long the oldest record that a purge would delete has been forgotten, in seconds."

#: A body runs from a millisecond to an hour.
BUCKETS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600)
#: Each is a time series for good: a scope that holds the number of a user makes millions.
MOST_SCOPES = 200
OTHERS = "(others)"

_scopes: set[str] = set()


def scope_label(scope: str) -> str:
    """The scope; one word for all that come after the first ``MOST_SCOPES`` of this process."""
    if scope not in _scopes:
        if len(_scopes) >= MOST_SCOPES:
            return OTHERS
        _scopes.add(scope)
    return scope


def seconds(duration: timedelta | None) -> float:
    """A duration as metrics say it; none is 0."""
    return 0.0 if duration is None else duration.total_seconds()


def listen(receive: Callable[[str, Told], None], *, name: str) -> None:
    """Call ``receive(outcome, about)`` for each outcome; a second time changes nothing."""
    for signal, outcome in OUTCOMES.items():

        def receiver(*, outcome: str, signal: Any, sender: Any, **about: Any) -> None:
            receive(outcome, Told(**about))  # type: ignore[typeddict-item] # as every signal sends

        getattr(signals, signal).connect(
            partial(receiver, outcome=outcome), weak=False, dispatch_uid=f"{name} {signal}"
        )


def asked(question: Callable[[str], T], using: str | None) -> T | None:
    """What the database says; None, and a line in the log, if it is away."""
    using = using or conf().DATABASE
    try:
        with _as_it_was(using):
            return question(using)
    except (DatabaseError, InterfaceError):
        logger.warning("Metrics are missing: %r cannot be asked.", using, exc_info=True)
        return None


@contextmanager
def _as_it_was(using: str) -> Iterator[None]:
    """Whoever asks for metrics may be a thread of its own, which closes no connection."""
    was_open = connections[using].connection is not None
    try:
        yield
    finally:
        if not was_open:
            connections[using].close()
