"""Deliver a task of your own twice, at once, or to a process that dies, and see what stands.

Like those of the package itself, the names are resolved on first use: a ``conftest.py`` may import
this before Django is set up. Neither pytest nor Celery has to be installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idempotency.testing.assertions import assert_effects as assert_effects
    from idempotency.testing.assertions import assert_failed as assert_failed
    from idempotency.testing.assertions import assert_in_doubt as assert_in_doubt
    from idempotency.testing.assertions import assert_once_or_in_doubt as assert_once_or_in_doubt
    from idempotency.testing.assertions import assert_succeeded as assert_succeeded
    from idempotency.testing.deaths import CannotDeliver as CannotDeliver
    from idempotency.testing.deaths import SimulatedCrash as SimulatedCrash
    from idempotency.testing.deaths import every_death as every_death
    from idempotency.testing.messages import Delivered as Delivered
    from idempotency.testing.messages import Message as Message
    from idempotency.testing.messages import deliver_twice as deliver_twice
    from idempotency.testing.messages import published as published
    from idempotency.testing.overlap import deliver_concurrently as deliver_concurrently
    from idempotency.testing.records import let_time_pass as let_time_pass
    from idempotency.testing.watching import AFTER_COMMIT as AFTER_COMMIT
    from idempotency.testing.watching import AFTER_EFFECT as AFTER_EFFECT
    from idempotency.testing.watching import BEFORE_EFFECT as BEFORE_EFFECT

_HOME = {
    "AFTER_COMMIT": "watching",
    "AFTER_EFFECT": "watching",
    "BEFORE_EFFECT": "watching",
    "CannotDeliver": "deaths",
    "Delivered": "messages",
    "Message": "messages",
    "SimulatedCrash": "deaths",
    "assert_effects": "assertions",
    "assert_failed": "assertions",
    "assert_in_doubt": "assertions",
    "assert_once_or_in_doubt": "assertions",
    "assert_succeeded": "assertions",
    "deliver_concurrently": "overlap",
    "deliver_twice": "messages",
    "every_death": "deaths",
    "let_time_pass": "records",
    "published": "messages",
}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll] # the names above say it


if not TYPE_CHECKING:  # a checker would take every name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
