"""The admin of the log of events."""

from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from idempotency.admin.base import ReadOnlyAdminMixin
from idempotency.admin.display import breakable, copyable, detailed
from idempotency.models import IdempotencyEvent, Kind
from idempotency.redaction import redacted


class EventAdminMixin(ReadOnlyAdminMixin):
    """The events. Mix it with any ``ModelAdmin``."""

    list_display = ["shown_kind", "shown_at", "shown_job", "shown_attempt", "shown_note"]
    list_filter = ["kind"]
    fields = [
        *("kind", "at", "shown_hash", "scope", "shown_task", "worker"),
        *("attempt", "duration", "redelivered", "note"),
    ]
    readonly_fields = ["shown_hash", "shown_task"]

    @admin.display(description=_("event"))
    def shown_kind(self, row: IdempotencyEvent) -> str:
        return str(dict(Kind.choices).get(row.kind, row.kind))

    @admin.display(description=_("when"))
    def shown_at(self, row: IdempotencyEvent) -> str:
        return self.instant(row, row.at)

    @admin.display(description=_("job"))
    def shown_job(self, row: IdempotencyEvent) -> SafeString:
        return detailed(breakable(row.scope), self.short_hash(row))

    @admin.display(description=_("attempt"))
    def shown_attempt(self, row: IdempotencyEvent) -> int | None:
        return row.attempt

    @admin.display(description=_("note"))
    def shown_note(self, row: IdempotencyEvent) -> str:
        return row.note and redacted("note", row.note)

    @admin.display(description=_("key hash"))
    def shown_hash(self, row: IdempotencyEvent) -> SafeString:
        return copyable(row.key_hash.hex)

    @admin.display(description=_("task id"))
    def shown_task(self, row: IdempotencyEvent) -> str:
        return copyable(row.task_id) if row.task_id else "-"
