"""Waiting for something that can be observed, never for time to pass."""

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")


def wait_until(look: Callable[[], Seen], what: str, *, seconds: float = 20) -> Seen:
    """What ``look()`` returned as soon as it was true; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > end:
            raise AssertionError(f"Waited {seconds:g} s in vain for: {what}. Last seen: {seen!r}")
        time.sleep(0.02)
    return seen
