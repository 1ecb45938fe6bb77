"""What the admin of each of our tables shares: to be looked at, not edited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from idempotency.redaction import redact

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    Mixin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin
    Mixin = object  # so that a mixin stands before any ModelAdmin, Django's or another


class ReadOnlyAdminMixin(Mixin):
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
