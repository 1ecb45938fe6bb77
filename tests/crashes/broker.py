"""A worker that comes to a gate before and after all that it tells the broker and the result
backend: ``python -m tests.crashes.broker QUEUE``."""

import functools
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

from celery.backends.base import Backend
from kombu.message import Message
from kombu.messaging import Producer

from idempotency import Verdict
from project.celery import app
from tests.harness.gates import reach

#: Each arrival here is a point, before or after one of these.
GATE = "broker"


def watch() -> None:
    """Let each of them come to the gate."""
    tells = (
        (Producer, "publish"),
        *((Message, name) for name in ("ack", "reject", "requeue")),
        (Backend, "store_result"),
    )
    for owner, name in tells:
        setattr(owner, name, _between_gates(getattr(owner, name)))


def _between_gates(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def step(*args: Any, **kwargs: Any) -> Any:
        reach(GATE)
        value = original(*args, **kwargs)
        reach(GATE)
        return value

    return step


def resolve_as_not_happened(key_hash: str) -> None:
    """For a process that is killed while it publishes what was parked."""
    from idempotency.resolution import resolve  # not before Django is set up

    watch()
    resolve(UUID(key_hash), Verdict.did_not_happen(), reason="looked there")


if __name__ == "__main__":
    watch()
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    app.worker_main(["worker", "-Q", sys.argv[1], "-P", "solo", "--loglevel", "INFO", *quiet])
