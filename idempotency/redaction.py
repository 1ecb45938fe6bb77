"""What may be shown of a key, an argument, a result, an error."""

from __future__ import annotations

from typing import TypeVar

from django.db.models import Model
from django.utils.module_loading import import_string

from idempotency.conf import conf

M = TypeVar("M", bound=Model)

#: The columns of our tables with what a user's code has put there.
COLUMNS = ("key", "result", "message", "error_message", "note")


def redacted(field: str, text: str) -> str:
    """``text`` as it may be shown: what the function named by the setting ``REDACT`` makes of it.

    Whatever goes wrong in that function, the text is not shown, and nothing is raised.

    Args:
        field: What the text is: ``key``, ``result``, ``message`` (a parked one, with its
            arguments), ``error_message``, ``note`` (of an event) or ``traceback`` (in the log).
        text: As it is stored, or would be logged.
    """
    try:
        path = conf().REDACT
        return text if path is None else str(import_string(path)(field, text))
    except Exception as error:  # it is the user's code, and what it hides must stay hidden
        return f"(not shown: REDACT raised {type(error).__name__})"


def redact(row: M) -> M:
    """A row of ours as it may be shown: it is never to be saved."""
    for column in COLUMNS:
        if text := getattr(row, column, None):
            setattr(row, column, redacted(column, text))
    return row
