"""The admin of the records."""

from __future__ import annotations

from idempotency.admin.base import ReadOnlyAdminMixin


class RecordAdminMixin(ReadOnlyAdminMixin):
    """The records: found, and understood. Mix it with any ``ModelAdmin``."""

    list_display = ["id", "state", "scope", "short_hash", "attempt", "created_at", "settled_at"]
    list_filter = ["state"]
