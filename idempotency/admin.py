"""Records, events and parked messages: to be looked at, not edited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage
from idempotency.redaction import redact, redacted

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
else:
    Base = admin.ModelAdmin


class ReadOnlyAdmin(Base):
    """Newest first, and found by hash."""

    ordering = ["-id"]
    sortable_by = ["id"]
    search_fields = ["key_hash"]
    search_help_text = "Key hash: 32 hex digits."
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Exact, so that the unique index serves it."""
        if not search_term:
            return queryset, False
        try:
            return queryset.filter(key_hash=UUID(search_term.strip())), False
        except ValueError:
            return queryset.none(), False

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """As it may be shown; it is never saved."""
        row = super().get_object(request, object_id, from_field)
        return row and redact(row)

    @admin.display(description="key hash")
    def short_hash(self, row: Any) -> str:
        return f"{row.key_hash.hex[:8]}…"


@admin.register(IdempotencyRecord)
class RecordAdmin(ReadOnlyAdmin):
    list_display = ["id", "state", "scope", "short_hash", "attempt", "created_at", "settled_at"]
    list_filter = ["state"]


@admin.register(IdempotencyEvent)
class EventAdmin(ReadOnlyAdmin):
    list_display = ["id", "at", "kind", "scope", "short_hash", "attempt", "shown_note"]
    list_filter = ["kind"]

    @admin.display(description="note")
    def shown_note(self, row: IdempotencyEvent) -> str:
        return row.note and redacted("note", row.note)


@admin.register(ParkedMessage)
class ParkedMessageAdmin(ReadOnlyAdmin):
    list_display = ["id", "created_at", "task_id", "short_hash", "reason", "is_kept"]
    list_filter = ["reason"]

    @admin.display(description="kept", boolean=True)
    def is_kept(self, row: ParkedMessage) -> bool:
        """If not, somebody has to send it again."""
        return row.message is not None
