"""The dashboard: what needs somebody, and what came in the last day, drawn as SVG."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from idempotency.admin.attention import attention
from idempotency.admin.base import ReadOnlyAdminMixin
from idempotency.admin.display import breakable, grouped
from idempotency.backlog import due
from idempotency.prospects import spoken
from idempotency.statistics import HOUR, Scope, Traffic, traffic

#: Of a drawing, in its own units: each bar with the gap behind it, and the highest bar.
STEP, HEIGHT = 10, 40


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour of a drawing."""

    hours: str
    number: str
    x: int
    height: int

    @property
    def y(self) -> int:
        return HEIGHT - self.height


@dataclass(frozen=True, slots=True)
class Chart:
    """Numbers by hour, as bars and as words: each on a scale of its own.

    Attributes:
        name: Part of the ids on the page.
    """

    name: str
    by_hour: Counter[int]
    begin: datetime
    hours: int

    @property
    def box(self) -> str:
        return f"0 0 {STEP * self.hours} {HEIGHT}"

    @property
    def total(self) -> str:
        return grouped(self.by_hour.total())

    @property
    def most(self) -> str:
        return grouped(self._highest)

    @property
    def _highest(self) -> int:
        return max(self.by_hour.values(), default=0)

    @property
    def bars(self) -> list[Bar]:
        return [
            Bar(_hours(self.begin, hour), grouped(number), STEP * hour, self._height(number))
            for hour, number in sorted(self.by_hour.items())
            if number
        ]

    def _height(self, number: int) -> int:
        return max(round(HEIGHT * number / self._highest), 1)


def _hours(begin: datetime, hour: int) -> str:
    """The hour of a day as people name it: ``13:20-14:20``."""
    at = begin + hour * HOUR
    return f"{at:%H:%M}\N{EN DASH}{at + HOUR:%H:%M}"


@dataclass(frozen=True, slots=True)
class Line:
    """What came to one scope, or to all."""

    scope: Scope
    records: Chart
    duplicates: Chart

    @property
    def name(self) -> SafeString | str:
        return _("all others") if self.scope.name is None else breakable(self.scope.name)

    @property
    def rate(self) -> str:
        """How often a delivery was a duplicate."""
        scope = self.scope
        if scope.one_in is not None:
            return _("1 in %(number)s deliveries") % {"number": number_format(scope.one_in, 1)}
        return _("none in %(number)s") % {"number": grouped(scope.deliveries)}

    @property
    def numbers(self) -> list[tuple[str, str]]:
        scope = self.scope
        return [
            (_("Redelivery rate"), self.rate),
            (_("Flagged by the broker"), grouped(scope.redelivered)),
            (_("Failures"), grouped(scope.failures)),
            (_("Deferrals"), grouped(scope.deferrals)),
        ]


def _line(name: str, scope: Scope, came: Traffic) -> Line:
    about = (came.begin, came.hours)
    return Line(
        scope,
        Chart(f"{name}-records", scope.records, *about),
        Chart(f"{name}-duplicates", scope.duplicates, *about),
    )


def _by_hour(came: Traffic, total: Scope) -> list[tuple[str, str, str]]:
    """What the drawings of the total say, for a table: the newest first."""
    return [
        (
            _hours(came.begin, hour),
            grouped(total.records[hour]),
            grouped(total.duplicates[hour]),
        )
        for hour in reversed(range(came.hours))
    ]


class DashboardAdminMixin(ReadOnlyAdminMixin):
    """A page of numbers beside the list of records."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.dashboard_view)
        name = f"{self.opts.app_label}_dashboard"
        return [path("dashboard/", view, name=name), *super().get_urls()]

    def dashboard_view(self, request: HttpRequest) -> HttpResponse:
        """Seventeen statements at most, whatever the tables hold: four for what came, three for
        the purge, ten for what needs attention."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        using = self.get_queryset(request).db
        came, forgotten = traffic(using), due(using)
        total = came.total
        context = {
            **self.admin_site.each_context(request),
            "title": _("Dashboard"),
            "opts": self.opts,
            "media": self.media,
            "attention": attention(using, self.address),
            "came": came,
            "total": _line("total", total, came),
            "lines": [_line(f"scope-{n}", scope, came) for n, scope in enumerate(came.scopes)],
            "by_hour": _by_hour(came, total),
            "due": forgotten,
            "forgotten": grouped(forgotten.records),
            "lag": forgotten.lag and spoken(forgotten.lag),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/idempotency/dashboard/page.html", context)
