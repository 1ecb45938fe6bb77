"""The states of a record and the legal transitions between them, as data."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class State(models.TextChoices):
    """Stored lower-case and never renamed: the values are public."""

    RUNNING = "running", _("running")
    SUCCEEDED = "succeeded", _("succeeded")
    FAILED = "failed", _("failed")  # nothing stands of it: a later delivery may claim
    IN_DOUBT = "in_doubt", _("in doubt")

    @property
    def words(self) -> str:
        """In English, for exceptions and logs, whatever language is active."""
        return self.value.replace("_", " ")


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
