"""One of two modules with a function of the same name."""

from idempotency import idempotent
from tests.jobs.tasks import effect


@idempotent(key="key")
def work(key: str) -> str:
    effect(key, "here")
    return "here"
