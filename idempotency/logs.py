"""Each signal becomes one line on the logger ``idempotency``, with stable fields.

The fields are in the line as ``name=value`` and on the record as ``idempotency_<name>``: the name
of the signal as ``event``, and the arguments of the signal; the duration in seconds.
"""

from __future__ import annotations

import json
import logging
import re
from functools import partial
from typing import Any

from idempotency import signals
from idempotency.redaction import redacted

logger = logging.getLogger("idempotency")

WORD = re.compile(r"[\w.:@/+-]+")

#: DEBUG what happens to every job, INFO a duplicate and what is done about it, WARNING what went
#: wrong and mends itself, ERROR what waits for somebody.
LEVELS = {
    "attempt_claimed": logging.DEBUG,
    "attempt_succeeded": logging.DEBUG,
    "duplicate_replayed": logging.INFO,
    "delivery_deferred": logging.INFO,
    "doubt_resolved": logging.INFO,
    "key_allowed_again": logging.INFO,
    "record_purged": logging.INFO,
    "attempt_failed": logging.WARNING,
    "claim_taken_over": logging.WARNING,
    "lease_lost": logging.WARNING,
    "claim_released": logging.WARNING,
    "delivery_given_up": logging.ERROR,
    "doubt_found": logging.ERROR,
    "key_exhausted": logging.ERROR,
}


def log(event: str, **about: Any) -> None:
    """Log a signal; the receiver of each."""
    level = LEVELS[event]
    if not logger.isEnabledFor(level):
        return
    duration, note = about["duration"], about["note"]
    fields = {
        "event": event,
        "using": about["using"],
        "key_hash": about["key_hash"].hex,
        "scope": about["scope"],
        "task_id": about["task_id"],
        "attempt": about["attempt"],
        "worker": about["worker"],
        "duration": None if duration is None else round(duration.total_seconds(), 6),
        "redelivered": about["redelivered"],
        "note": note and redacted("note", note),
    }
    shown = [
        f"{name}={_as_word(value)}"
        for name, value in fields.items()
        if value not in (None, "") and name != "event"
    ]
    extra = {f"idempotency_{name}": value for name, value in fields.items()}
    logger.log(level, "%s %s", event, " ".join(shown), extra=extra)


def _as_word(value: object) -> str:
    """One word, whatever a publisher made of a task id: a line break would begin another line."""
    text = str(value)
    return text if WORD.fullmatch(text) else json.dumps(text)


class RedactTracebacks(logging.Filter):
    """The text of an error can hold whatever its raiser put there."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info:
            text = logging.Formatter().formatException(record.exc_info)
            shown = redacted("traceback", text)
            if shown != text:
                record.exc_text, record.exc_info = shown, None
        return True


for name in LEVELS:
    getattr(signals, name).connect(partial(log, name), weak=False)
logger.addFilter(RedactTracebacks())
