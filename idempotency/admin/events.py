"""The admin of the log of events."""

from __future__ import annotations

from django.contrib import admin

from idempotency.admin.base import ReadOnlyAdminMixin
from idempotency.models import IdempotencyEvent
from idempotency.redaction import redacted


class EventAdminMixin(ReadOnlyAdminMixin):
    """The events. Mix it with any ``ModelAdmin``."""

    list_display = ["id", "at", "kind", "scope", "short_hash", "attempt", "shown_note"]
    list_filter = ["kind"]

    @admin.display(description="note")
    def shown_note(self, row: IdempotencyEvent) -> str:
        return row.note and redacted("note", row.note)
