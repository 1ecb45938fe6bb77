"""What in Celery's configuration breaks a promise: ``manage.py check``."""

from __future__ import annotations

from typing import Any

from celery import Celery, current_app
from celery.backends.base import BaseBackend, KeyValueStoreBackend
from django.core import checks


@checks.register(checks.Tags.compatibility)
def check_celery(**_: Any) -> list[checks.CheckMessage]:
    """Check the current Celery application."""
    return check_chords(current_app._get_current_object())  # type: ignore[attr-defined] # of a proxy


def check_chords(app: Celery) -> list[checks.CheckMessage]:
    """A backend that counts the members of a chord counts one that is delivered twice twice."""
    try:
        backend = app.backend
    except Exception:  # Celery says itself, and better, what is wrong with it
        return []
    if not _counts_twice(backend):
        return []
    name = f"{type(backend).__module__}.{type(backend).__qualname__}"
    return [
        checks.Warning(
            f"The result backend {name} counts a chord's member again when it is delivered again, "
            "so that the chord's body runs too early, or never.",
            hint="For chords use Redis with result_chord_ordered, the default, or a backend that "
            "polls: rpc:// or db+...://. Without chords, silence this.",
            id="idempotency.W019",
        )
    ]


def _counts_twice(backend: Any) -> bool:
    # Redis: members are a set, ordered or, since Celery 5.7, beside a list.
    if getattr(backend, "_chord_zset", False) or hasattr(backend, "_chord_part_return_script"):
        return False
    if isinstance(backend, KeyValueStoreBackend):
        return bool(backend.implements_incr)
    # Celery's own do nothing here: chord_unlock polls the results.
    return type(backend).on_chord_part_return is not BaseBackend.on_chord_part_return
