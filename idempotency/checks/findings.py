"""The one shape of all that is found, and how a check is registered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.core import checks

#: ``manage.py check --tag idempotency``
TAG = "idempotency"
#: Each id is a heading there.
PAGE = "docs/reference/checks.md"

KINDS = {"E": checks.Error, "W": checks.Warning, "I": checks.Info}

Found = list[checks.CheckMessage]


def finding(number: str, message: str, hint: str) -> checks.CheckMessage:
    """What was found.

    Args:
        number: Its id without ``idempotency.``; the letter says how bad it is.
        message: What is true, and what it means.
        hint: What to type.
    """
    anchor = f"{PAGE}#idempotency{number.lower()}"
    kind = KINDS[number[0]]
    return kind(message, hint=f"{hint} See {anchor}".strip(), id=f"idempotency.{number}")


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def register(check: Callable[[], Found], *, deploy: bool = False) -> None:
    """Let ``manage.py check`` call it, whatever applications it is asked about.

    Args:
        deploy: Only with ``--deploy``: what is right on a developer's machine.
    """

    def run(app_configs: Sequence[Any] | None, **_: Any) -> Found:
        return check()

    run.__name__ = check.__name__
    checks.register(run, TAG, deploy=deploy)
