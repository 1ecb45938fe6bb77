"""What a transactional body does outside of its transaction: said once for each scope."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections

from idempotency.attempts import transaction_owner

logger = logging.getLogger("idempotency")

WRITE = re.compile(r"\W*(insert|update|delete|merge|replace|truncate|copy)\b", re.IGNORECASE)

_hooks_said: set[str] = set()
_writes_said: set[str] = set()


@contextmanager
def watched(scope: str, using: str) -> Iterator[None]:
    """Watch a body whose transaction is open on ``using``."""
    connection = connections[using]
    before = len(connection.run_on_commit)
    with ExitStack() as watches:
        if scope not in _writes_said:
            for alias in connections.settings:
                if alias != using:
                    wrapper = _wrapper(scope, using, alias)
                    watches.enter_context(connections[alias].execute_wrapper(wrapper))
        yield
    if len(connection.run_on_commit) > before and scope not in _hooks_said:
        _hooks_said.add(scope)
        logger.warning(
            "The body of %s left an on_commit hook (delay_on_commit() is one). It is no part of "
            "the effect: a worker that dies between COMMIT and the hook has lost it, and a "
            "duplicate does not run it again. Let what follows come from the result: a chain's "
            "next step, or link=.",
            scope,
        )


def _wrapper(scope: str, using: str, alias: str) -> Callable[..., Any]:
    def wrapper(execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
        # A job of ours with a transaction there has a record there, which is its own protection.
        is_ours = transaction_owner(connections[alias]) or "idempotency_" in str(sql)
        if scope not in _writes_said and not is_ours and WRITE.match(str(sql)):
            _writes_said.add(scope)
            logger.warning(
                "The body of %s writes to the database %r, and its record is in %r: what it "
                "writes there is not committed with the record, and is repeated with the body. "
                "Write through %r, or pass using=%r.",
                scope, alias, using, using, alias,
            )  # fmt: skip
        return execute(sql, *rest)

    return wrapper
