"""What a transactional body does outside of its transaction: said once for each scope."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from idempotency.attempts import transaction_owner
from idempotency.events import tell

logger = logging.getLogger("idempotency")

WRITE = re.compile(r"\W*(insert|update|delete|merge|replace|truncate|copy)\b", re.IGNORECASE)

_hooks_said: set[str] = set()
_writes_said: set[str] = set()


@contextmanager
def watched(scope: str, using: str) -> Iterator[None]:
    """Watch a body whose transaction is open on ``using``."""
    connection = connections[using]
    before = _hooks(connection)
    with ExitStack() as watches:
        if scope not in _writes_said:
            for there in _others(using):
                watches.enter_context(there.execute_wrapper(_wrapper(scope, using, there)))
        yield
    if _hooks(connection) > before and scope not in _hooks_said:
        _hooks_said.add(scope)
        logger.warning(
            "The body of %s left an on_commit hook (delay_on_commit() is one). It is no part of "
            "the effect: a worker that dies between COMMIT and the hook has lost it, and a "
            "duplicate does not run it again. Let what follows come from the result: a chain's "
            "next step, or link=.",
            scope,
        )


def _hooks(connection: Any) -> int:
    """How many there are, without those by which nested calls are told of."""
    hooks = [hook for _, hook, _ in connection.run_on_commit]
    return sum(getattr(hook, "func", None) is not tell for hook in hooks)


def _others(using: str) -> Iterator[Any]:
    for alias in connections.settings:
        if alias != using:
            with suppress(ImportError, ImproperlyConfigured):  # no driver, and so no write
                yield connections[alias]


def _wrapper(scope: str, using: str, there: Any) -> Callable[..., Any]:
    def wrapper(execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
        # A job of ours with a transaction there has a record there, which is its own protection.
        is_ours = transaction_owner(there) or "idempotency_" in str(sql)
        if scope not in _writes_said and not is_ours and WRITE.match(str(sql)):
            _writes_said.add(scope)
            logger.warning(
                "The body of %s writes to the database %r, and its record is in %r: what it "
                "writes there is not committed with the record, and is repeated with the body. "
                "Write through %r, or pass using=%r.",
                scope, there.alias, using, using, there.alias,
            )  # fmt: skip
        return execute(sql, *rest)

    return wrapper
