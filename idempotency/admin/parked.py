"""The admin of the parked messages."""

from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from idempotency.admin.base import ReadOnlyAdminMixin
from idempotency.admin.display import copyable
from idempotency.models import ParkedMessage, Reason


class ParkedMessageAdminMixin(ReadOnlyAdminMixin):
    """The messages that wait. Mix it with any ``ModelAdmin``."""

    list_display = ["shown_task", "shown_reason", "shown_at", "short_hash", "is_kept"]
    list_filter = ["reason"]
    fields = ["shown_message", "reason", "created_at", "shown_hash", "is_kept", "message"]
    readonly_fields = ["shown_message", "shown_hash", "is_kept"]

    @admin.display(description=_("task id"))
    def shown_task(self, row: ParkedMessage) -> str:
        return row.task_id

    @admin.display(description=_("task id"))
    def shown_message(self, row: ParkedMessage) -> SafeString:
        return copyable(row.task_id)

    @admin.display(description=_("waits"))
    def shown_reason(self, row: ParkedMessage) -> str:
        return str(dict(Reason.choices).get(row.reason, row.reason))

    @admin.display(description=_("since"))
    def shown_at(self, row: ParkedMessage) -> str:
        return self.instant(row, row.created_at)

    @admin.display(description=_("kept"), boolean=True)
    def is_kept(self, row: ParkedMessage) -> bool:
        """If not, somebody has to send it again."""
        return row.message is not None

    @admin.display(description=_("key hash"))
    def shown_hash(self, row: ParkedMessage) -> SafeString:
        return copyable(row.key_hash.hex)
