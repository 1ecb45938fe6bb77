"""What a list of records can be narrowed to. All in the address, so that a view can be shared."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from idempotency.admin.display import LOOKS
from idempotency.admin.search import known_scopes
from idempotency.querysets import after
from idempotency.states import State

AGES = {
    "1h": (_("Past hour"), timedelta(hours=1)),
    "24h": (_("Past 24 hours"), timedelta(hours=24)),
    "7d": (_("Past 7 days"), timedelta(days=7)),
}
SOON = timedelta(days=1)


class StateFilter(admin.SimpleListFilter):
    """The states, and what they come to: whose lease has run out, who may not be claimed."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(name, look.word) for name, look in LOOKS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return narrowed(queryset, self.value() or "")


#: What an index holds of each look; of what has succeeded none does.
HELD = {
    "in_doubt": Q(state=State.IN_DOUBT),
    "lapsed": Q(state=State.RUNNING),
    "exhausted": Q(state=State.FAILED, exhausted_at__isnull=False),
    "failed": Q(state=State.FAILED),
    "running": Q(state=State.RUNNING),
}


def narrowed(records: Any, name: str) -> QuerySet[Any]:
    """The records of one look. The state is always named: by it a partial index is known."""
    failed = records.filter(state=State.FAILED)
    looks = {
        "lapsed": records.lapsed(),
        "running": records.leased(),
        "exhausted": failed.exhausted(),
        "failed": failed.filter(exhausted_at=None),
        "in_doubt": records.filter(state=State.IN_DOUBT),
        "succeeded": records.filter(state=State.SUCCEEDED),
    }
    rows: QuerySet[Any] = looks.get(name, records)
    return rows


class ScopeFilter(admin.SimpleListFilter):
    """The scopes of the project's jobs, from their registry; any other can be typed."""

    title = _("scope")
    parameter_name = "scope"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        given = request.GET.get("scope")
        names = {*known_scopes(), *([given] if given else [])}
        return [(name, name) for name in sorted(names)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        scope = self.value()
        if not scope:
            return queryset
        # PostgreSQL has no text with NUL in it.
        return queryset.none() if "\0" in scope else queryset.filter(scope=scope)


class AgeFilter(admin.SimpleListFilter):
    title = _("age")
    parameter_name = "age"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(name, word) for name, (word, _) in AGES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in AGES:
            return queryset
        _, age = AGES[str(self.value())]
        return queryset.filter(created_at__gte=Now() - age)


class AttemptsFilter(admin.SimpleListFilter):
    title = _("attempts")
    parameter_name = "attempts"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("many", _("More than one"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(attempt__gt=1) if self.value() == "many" else queryset


class ExpiryFilter(admin.SimpleListFilter):
    """What the next deliveries soon run again."""

    title = _("retention")
    parameter_name = "expires"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("soon", _("Forgotten within a day"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() != "soon":
            return queryset
        return queryset.filter(settled_at__isnull=False, expires_at__lte=after(SOON))
