"""Views that would call an idempotent function inside the transaction of their request."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from django.db import connections
from django.urls import URLPattern, URLResolver, get_resolver

from idempotency.checks.databases import aliases_of, known_aliases
from idempotency.checks.findings import Found, finding, register
from idempotency.conf import conf, has_views
from idempotency.execution import execute


def check_views() -> Found:
    """E010: ``ATOMIC_REQUESTS`` around a call.

    Only what the code of a view names itself is seen, so that a project whose views merely send
    messages is not told anything.
    """
    atomic = {a for a in known_aliases() if connections[a].settings_dict["ATOMIC_REQUESTS"]}
    if not atomic or not has_views():
        return []
    refused = {
        (f"{view.__module__}.{(_made_of(view) or view).__qualname__}", name)
        for view in _views(get_resolver().url_patterns)
        for name, alias in _calls(view)
        if alias in atomic - getattr(view, "_non_atomic_requests", set())
    }
    return [
        finding(
            "E010",
            f"The view {view} calls {name}(), and ATOMIC_REQUESTS has opened a transaction before: "
            "each call raises InsideTransaction.",
            "Put @transaction.non_atomic_requests on the view.",
        )
        for view, name in sorted(refused)
    ]


def _views(patterns: list[Any]) -> Iterator[Callable[..., Any]]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _views(pattern.url_patterns)
        elif isinstance(pattern, URLPattern) and inspect.isfunction(pattern.callback):
            yield pattern.callback


def _made_of(view: Any) -> type | None:
    """The class of a view that Django's or the REST framework's ``as_view()`` has made."""
    return getattr(view, "view_class", None) or getattr(view, "cls", None)


def _calls(view: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """What of ours the view calls, by its name there, and the alias of its records."""
    made_of = _made_of(view)
    members = inspect.getmembers(made_of, inspect.isfunction) if made_of else [("", view)]
    # What a decorator has wrapped may be an object that can be called.
    for function in filter(inspect.isfunction, (inspect.unwrap(member) for _, member in members)):
        for name in function.__code__.co_names:
            called = function.__globals__.get(name)
            # A Celery task is an object that may be sent; a function can only be called.
            job = getattr(called, "__idempotent__", None) if inspect.isfunction(called) else None
            if called is execute or job:
                for alias in aliases_of(job) if job else [conf().DATABASE]:
                    yield name, alias


register(check_views)
