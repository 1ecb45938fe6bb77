"""What a test calls in a process of its own; see `tests.harness.processes.Call`."""

from django.db import transaction

from idempotency import execute
from tests.harness.gates import reach
from tests.jobs.tasks import effect


def leave_a_hook() -> None:
    """A body whose hook comes to a gate."""

    def hook() -> None:
        reach("hook")
        effect("key", "hook")

    def body() -> None:
        effect("key", "effect")
        transaction.on_commit(hook)

    execute(body, key="key", scope="test")
