"""A delivery watched from outside: the app itself holds no hook for tests."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from django.db import connections
from django.utils.module_loading import import_string

from idempotency import execution
from idempotency.attempts import Delivery
from idempotency.calls import Call, Outcome
from idempotency.conf import conf
from idempotency.digests import Key
from idempotency.storage import VENDORS, Storage, storage_for

#: The key is held, and the body starts.
BEFORE_EFFECT = "before the effect"
#: The body has returned; nothing is committed of a transactional attempt, and no leased one has
#: settled.
AFTER_EFFECT = "after the effect"
#: The task has returned, and what its last idempotent call did is committed; the message is not
#: acknowledged.
AFTER_COMMIT = "after the commit"


def steps() -> list[str]:
    """The durable steps: what a storage does, without what it only tells or refuses."""
    return [
        name
        for name, member in vars(Storage).items()
        if inspect.isfunction(member)
        and not hasattr(member, "__wrapped__")  # transaction(): it is the steps inside that count
        and not name.startswith(("_", "is_", "refuse_"))
    ]


def moments() -> set[str]:
    """Every moment that an attempt may come to."""
    around = {f"{when} {step}" for step in steps() for when in ("before", "after")}
    return around | {BEFORE_EFFECT, AFTER_EFFECT, AFTER_COMMIT}


def in_test_case() -> bool:
    """Inside Django's own ``TestCase`` wrapper, on any database that holds records."""
    return any(storage_for(each.alias).in_test_case for each in _connections())


def _connections() -> list[Any]:
    return [each for each in connections.all() if each.vendor in VENDORS]


class Watch:
    """What one delivery is seen to do, in its outermost idempotent call.

    Args:
        meet: Called with the name of each moment that it comes to.
    """

    def __init__(self, meet: Callable[[str], None]) -> None:
        self.meet = meet
        self.key: Key | None = None
        self.using = conf().DATABASE
        self.outcome: Outcome[Any] | None = None
        #: Whether the call is all of a Celery task, and not one in the midst of it.
        self.is_task = False
        self._is_inside = False

    def run(self, original: Callable[[Call], Outcome[Any]], call: Call) -> Outcome[Any]:
        """``original(call)``; it stands in the place of ``execution.run``."""
        if self._is_inside:
            return original(call)
        self.key, self.using = call.key, call.using or conf().DATABASE
        self.is_task = type(call.delivery) is not Delivery

        def body() -> Any:
            self.meet(BEFORE_EFFECT)
            value = call.function()
            self.meet(AFTER_EFFECT)
            return value

        self._is_inside = True
        try:
            self.outcome = original(replace(call, function=body))
        finally:
            self._is_inside = False
        return self.outcome


#: Of the delivery in this context: other threads, a heartbeat's too, are not watched.
_watch: ContextVar[Watch | None] = ContextVar("idempotency_testing_watch", default=None)


@contextmanager
def watched_by(watch: Watch) -> Iterator[None]:
    """What runs here, and in this thread, is the delivery that ``watch`` watches."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


@contextmanager
def watching() -> Iterator[None]:
    """Let every watch see. Once around all threads: it changes modules and classes."""
    vendors = {VENDORS[each.vendor] for each in _connections()}
    with ExitStack() as changes:
        changes.enter_context(patch.object(execution, "run", _watched_run(execution.run)))
        for storage in map(import_string, sorted(vendors)):
            for name in steps():
                step = _watched_step(name, getattr(storage, name))
                changes.enter_context(patch.object(storage, name, step))
        yield


def _watched_run(original: Callable[[Call], Outcome[Any]]) -> Callable[[Call], Outcome[Any]]:
    def run(call: Call) -> Outcome[Any]:
        watch = _watch.get()
        return original(call) if watch is None else watch.run(original, call)

    return run


def _watched_step(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def step(*args: Any, **kwargs: Any) -> Any:
        watch = _watch.get()
        if watch is None:
            return original(*args, **kwargs)
        watch.meet(f"before {name}")
        value = original(*args, **kwargs)
        watch.meet(f"after {name}")
        return value

    return step
