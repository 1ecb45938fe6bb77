"""What a transactional body does outside of its transaction: said once for each scope."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created
from django.dispatch import receiver

from idempotency.attempts import transactional_attempt
from idempotency.events import tell

logger = logging.getLogger("idempotency")

WRITE = re.compile(r"\W*(insert|update|delete|merge|replace|truncate|copy)\b", re.IGNORECASE)

_hooks_said: set[str] = set()
_writes_said: set[str] = set()


def say_hooks(scope: str, hooks: Iterable[Any]) -> None:
    """Say that a body left these in Django's ``run_on_commit``, unless they are those by which
    nested calls are told of."""
    is_other = any(getattr(hook, "func", None) is not tell for _, hook, *_ in hooks)
    if is_other and scope not in _hooks_said:
        _hooks_said.add(scope)
        logger.warning(
            "The body of %s left an on_commit hook (delay_on_commit() is one). It is no part of "
            "the effect: a worker that dies between COMMIT and the hook has lost it, and a "
            "duplicate does not run it again. Let what follows come from the result: a chain's "
            "next step, or link=.",
            scope,
        )


@receiver(connection_created, dispatch_uid="idempotency.outside")
def watch(connection: Any, **_: Any) -> None:
    """Look at what is written through this connection, where a body has another one: from the
    opening on, so that no body has to touch the connections of others."""
    wrappers = connection.execute_wrappers
    if len(list(connections)) > 1 and say_write not in wrappers:
        wrappers.insert(0, say_write)  # who adds one for a while takes the last away


def say_write(
    execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Django's ``execute_wrapper`` that says what a body writes through another connection."""
    attempt = transactional_attempt()
    there = context["connection"]
    if attempt is not None and attempt.connection is not there:
        _say_write(attempt.scope, attempt.connection.alias, str(sql), there)
    return execute(sql, params, many, context)


def _say_write(scope: str, using: str, sql: str, there: Any) -> None:
    is_ours = "idempotency_" in sql
    if scope not in _writes_said and not is_ours and WRITE.match(sql):
        _writes_said.add(scope)
        logger.warning(
            "The body of %s writes to the database %r, and its record is in %r: what it "
            "writes there is not committed with the record, and is repeated with the body. "
            "Write through %r, or pass using=%r.",
            scope, there.alias, using, using, there.alias,
        )  # fmt: skip
