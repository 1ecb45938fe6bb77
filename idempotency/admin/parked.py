"""The admin of the parked messages."""

from __future__ import annotations

from django.contrib import admin

from idempotency.admin.base import ReadOnlyAdminMixin
from idempotency.models import ParkedMessage


class ParkedMessageAdminMixin(ReadOnlyAdminMixin):
    """The messages that wait. Mix it with any ``ModelAdmin``."""

    list_display = ["id", "created_at", "task_id", "short_hash", "reason", "is_kept"]
    list_filter = ["reason"]

    @admin.display(description="kept", boolean=True)
    def is_kept(self, row: ParkedMessage) -> bool:
        """If not, somebody has to send it again."""
        return row.message is not None
