"""What the sequences of events need."""

import pytest

from idempotency.storage.postgresql import PostgreSQL
from tests.contrib.conftest import deliver, messages, sent
from tests.execution.bodies import Gate

__all__ = ["deliver", "late_note", "messages", "sent"]


@pytest.fixture
def late_note(monkeypatch):
    """A gate before the note of a failure: all is rolled back, and the lock is free."""
    gate, note = Gate(), PostgreSQL.note_failure

    def held_up(*arguments):
        gate.pass_()
        return note(*arguments)

    monkeypatch.setattr(PostgreSQL, "note_failure", held_up)
    return gate
