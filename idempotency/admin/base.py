"""What the admin of each of our tables shares: to be looked at, not edited; fast at any size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.db.models.functions import Now
from django.forms import Media
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from idempotency.admin.display import instant
from idempotency.admin.export import EXPORTS
from idempotency.admin.search import OF_STATE, keys_named, newest, newest_of
from idempotency.conf import conf
from idempotency.redaction import COLUMNS, redact

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    Mixin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin
    Mixin = object  # so that a mixin stands before any ModelAdmin, Django's or another


class CappedPaginator(Paginator):  # type: ignore[type-arg] # no generic class at run time
    """Counts no further than anybody turns pages: COUNT and OFFSET then have an end."""

    CAP = 5_000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        number: int = rows[: self.CAP].count()
        return number

    @property
    def is_capped(self) -> bool:
        return self.count >= self.CAP


class BoundedChangeList(ChangeList):
    """What no index serves by itself is looked for among so many ids, or so many of a state, and
    the page says so."""

    #: Of the newest, ids: they lie side by side. Of the oldest, rows.
    WINDOW = 200_000
    OF_STATE = OF_STATE
    window: int | None = None
    is_of_state = is_oldest_window = False

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        rows = super().get_queryset(request, *args, **kwargs)
        asked = self.get_filters_params()
        view: Any = self.model_admin
        if self.query or not asked:
            return rows
        self.is_oldest_window = asked.get("expires") == ["soon"]
        held = view.held_by_index(asked)
        if held is not None:
            return self._among_held(rows, held) if len(asked) > 1 else rows
        self.window = self.WINDOW
        if not self.is_oldest_window:
            narrowed: QuerySet[Any] = newest(rows, self.WINDOW)
            return narrowed
        # Rows and not ids: among the oldest, purges have left gaps.
        ids = self.model._default_manager.using(rows.db).order_by("pk").values_list("pk")
        edge = ids[self.WINDOW : self.WINDOW + 1].first()
        return rows.filter(pk__lt=edge[0]) if edge else rows

    def _among_held(self, rows: QuerySet[Any], held: Q) -> QuerySet[Any]:
        oldest = self.is_oldest_window
        narrowed: QuerySet[Any] = newest_of(rows, held, self.OF_STATE, oldest=oldest)
        if narrowed is not rows:
            self.window, self.is_of_state = self.OF_STATE, True
        return narrowed


class ReadOnlyAdminMixin(Mixin):
    """Newest first, found by key, and changed by nobody."""

    actions: Any = EXPORTS
    ordering = ["-id"]
    sortable_by = []
    search_fields = ["key_hash"]
    search_help_text = _(
        "A key (7, order-7, [1, 7]), in one scope (shop.ship: 7), its hash or 8 digits of that, or "
        "a task id."
    )
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 200
    paginator = CappedPaginator
    change_list_template = "admin/idempotency/change_list.html"

    @property
    def media(self) -> Media:
        ours = Media(
            css={"all": ["idempotency/admin.css"]},
            js=["idempotency/admin.js"],
        )
        return super().media + ours

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """What is hidden could be guessed letter by letter: ``?key__startswith=a``."""
        is_hidden = conf().REDACT is not None and lookup.partition("__")[0] in COLUMNS
        return not is_hidden and super().lookup_allowed(lookup, value, request)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return BoundedChangeList

    def held_by_index(self, asked: dict[str, list[str]]) -> Q | None:
        """All that an index holds of what these parameters ask for, and little else."""
        return None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With ``seen_at``, the database's clock: it alone decides leases and expiry."""
        rows: QuerySet[Any] = super().get_queryset(request)
        read: QuerySet[Any] = rows.using(conf().DATABASE).annotate(seen_at=Now())
        return read

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        words = search_term.strip()
        return queryset.filter(keys_named(words, queryset.db)) if words else queryset, False

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """As it may be shown; it is never saved."""
        row = super().get_object(request, object_id, from_field)
        return row and redact(row)

    @admin.display(description=_("key hash"))
    def short_hash(self, row: Any) -> str:
        return f"{row.key_hash.hex[:8]}…"

    def address(self, page: str, *args: Any, **query: str) -> str:
        """Of a page of the site in which this admin stands. Empty: it is not in that site."""
        try:
            found = reverse(f"admin:{page}", args=args, current_app=self.admin_site.name)
        except NoReverseMatch:
            return ""
        return f"{found}?{urlencode(query)}" if query else found

    def instant(self, row: Any, at: Any) -> str:
        """A time of a row, relative to when it was read."""
        return instant(at, row.seen_at)
