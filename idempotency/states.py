"""The states of a record and the legal transitions between them, as data."""

from django.db import models


class State(models.TextChoices):
    """Stored lower-case and never renamed: the values are public."""

    RUNNING = "running", "running"
    SUCCEEDED = "succeeded", "succeeded"
    FAILED = "failed", "failed"  # nothing stands of it: a later delivery may claim
    IN_DOUBT = "in_doubt", "in doubt"


#: A key without a record has no state: None. A transactional success goes there in one step.
TRANSITIONS: dict[State | None, frozenset[State]] = {
    None: frozenset({State.RUNNING, State.SUCCEEDED, State.FAILED}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.FAILED, State.IN_DOUBT}),
    # Expired, so the key is new again; or allowed again.
    State.SUCCEEDED: frozenset({State.RUNNING, State.FAILED}),
    # Into IN_DOUBT: the provider does not know a repeat any more.
    State.FAILED: frozenset({State.RUNNING, State.SUCCEEDED, State.IN_DOUBT}),
    State.IN_DOUBT: frozenset({State.SUCCEEDED, State.FAILED}),
}
