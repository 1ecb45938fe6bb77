"""The admin of the records: what is stuck, why it ran twice, what comes next."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from idempotency.admin.attention import attention
from idempotency.admin.base import BoundedChangeList
from idempotency.admin.dashboard import DashboardAdminMixin
from idempotency.admin.display import Text, badge, breakable, copyable, detailed, look_of
from idempotency.admin.filters import (
    HELD,
    AgeFilter,
    AttemptsFilter,
    ExpiryFilter,
    ScopeFilter,
    StateFilter,
)
from idempotency.admin.story import EVENTS, story
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage, Reason
from idempotency.prospects import what_next
from idempotency.redaction import redacted

#: Of so many waiting messages a record's page tells.
MESSAGES = 100


class RecordChangeList(BoundedChangeList):
    """What a list does not show is not read: a result can be large."""

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        return super().get_queryset(request, *args, **kwargs).defer("result", "error_message")


class RecordAdminMixin(DashboardAdminMixin):
    """The records: found, and understood. Mix it with any ``ModelAdmin``."""

    list_display = ["shown_state", "shown_job", "shown_attempt", "shown_made", "shown_end"]
    list_display_links = ["shown_job"]
    list_filter = [StateFilter, AgeFilter, AttemptsFilter, ExpiryFilter, ScopeFilter]
    change_list_template = "admin/idempotency/record/change_list.html"
    change_form_template = "admin/idempotency/record/change_form.html"
    fieldsets = [
        (_("Key"), {"fields": ["shown_hash", "scope", "key", "shown_provider_key", "fingerprint"]}),
        (
            _("Attempt"),
            {
                "fields": [
                    *("attempt", "generation", "deaths", "policy", "owner"),
                    *("shown_task", "claim_id"),
                ]
            },
        ),
    ]
    readonly_fields = ["shown_hash", "shown_provider_key", "shown_task"]

    # -- for a project to override -----------------------------------------------------------

    #: Where a monitor shows the message of a record: ``https://flower.example/task/{task_id}``, or
    #: a log search for ``{key_hash}``. Each is quoted for a URL. Empty: nowhere.
    monitor_url = ""

    def get_related_url(self, record: IdempotencyRecord) -> str | None:
        """Where the object is that the key names: an order. None: nowhere."""
        return None

    # -- the list ----------------------------------------------------------------------------

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RecordChangeList

    def held_by_index(self, asked: dict[str, list[str]]) -> Q | None:
        """The partial indexes hold all that has not succeeded."""
        return HELD.get(asked.get("state", [""])[-1])  # of more than one, the filter takes the last

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = dict(extra_context or {})
        if request.method == "GET":
            rows = self.get_queryset(request)
            context["attention"] = attention(rows.db, self.address)
        return super().changelist_view(request, context)

    @admin.display(description=_("state"))
    def shown_state(self, row: IdempotencyRecord) -> SafeString:
        error = (row.error_class or "").rpartition(".")[2]
        return detailed(badge(look_of(row)), error)

    @admin.display(description=_("job"))
    def shown_job(self, row: IdempotencyRecord) -> SafeString:
        key = redacted("key", row.key) if row.key else self.short_hash(row)
        return detailed(breakable(row.scope), key)

    @admin.display(description=_("attempt"))
    def shown_attempt(self, row: IdempotencyRecord) -> int:
        return row.attempt

    @admin.display(description=_("made"))
    def shown_made(self, row: IdempotencyRecord) -> str:
        return self.instant(row, row.created_at)

    @admin.display(description=_("ended"))
    def shown_end(self, row: IdempotencyRecord) -> str:
        return self.instant(row, row.settled_at)

    # -- one record --------------------------------------------------------------------------

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        record: IdempotencyRecord | None = context.get("original")
        if record is not None:
            context |= self._told(record)
        return super().render_change_form(request, context, *args, **kwargs)

    def _told(self, record: IdempotencyRecord) -> dict[str, Any]:
        using = record._state.db
        about = {"key_hash": record.key_hash}
        events = IdempotencyEvent.objects.using(using).filter(**about).order_by("-id")
        known = list(events[: EVENTS + 1])
        texts = [
            Text(title, text)
            for title, text in (
                (_("Result"), record.result),
                (_("Error"), record.error_message),
            )
            if text is not None
        ]
        return {
            "badge": badge(look_of(record)),
            "prospect": what_next(record, record.seen_at),
            "story": story(record, reversed(known[:EVENTS])),
            "has_more_events": len(known) > EVENTS,
            "texts": texts,
            "messages_waiting": self._messages(record),
            "links": self._links(record),
        }

    def _messages(self, record: IdempotencyRecord) -> list[dict[str, Any]]:
        """Without the messages themselves: they have a page of their own."""
        is_kept = ExpressionWrapper(Q(message__isnull=False), output_field=BooleanField())
        rows = ParkedMessage.objects.using(record._state.db).filter(key_hash=record.key_hash)
        told = rows.order_by("id").values("pk", "task_id", "reason", "created_at", is_kept=is_kept)
        return [
            row
            | {
                "reason": dict(Reason.choices).get(row["reason"], row["reason"]),
                "at": self.instant(record, row["created_at"]),
                "url": self.address("idempotency_parkedmessage_change", row["pk"]),
            }
            for row in told[:MESSAGES]
        ]

    def _links(self, record: IdempotencyRecord) -> list[tuple[str, str]]:
        events = self.address("idempotency_idempotencyevent_changelist", q=record.key_hash.hex)
        links = [
            (_("Related object"), self.get_related_url(record)),
            (_("Monitor"), self._monitor_url(record)),
            (_("Task result"), self._task_result_url(record)),
            (_("Events"), events),
        ]
        return [(str(word), url) for word, url in links if url]

    def _monitor_url(self, record: IdempotencyRecord) -> str | None:
        if not record.task_id and "{task_id}" in self.monitor_url:
            return None
        task_id = quote(record.task_id or "", safe="")
        return self.monitor_url.format(task_id=task_id, key_hash=record.key_hash.hex)

    def _task_result_url(self, record: IdempotencyRecord) -> str | None:
        """The list of django-celery-results, where that is installed, at the one result."""
        if not record.task_id or not apps.is_installed("django_celery_results"):
            return None
        return self.address("django_celery_results_taskresult_changelist", task_id=record.task_id)

    @admin.display(description=_("key hash"))
    def shown_hash(self, row: IdempotencyRecord) -> SafeString:
        return copyable(row.key_hash.hex)

    @admin.display(description=_("provider key"))
    def shown_provider_key(self, row: IdempotencyRecord) -> SafeString:
        return copyable(str(row.provider_key))

    @admin.display(description=_("task id"))
    def shown_task(self, row: IdempotencyRecord) -> str:
        return copyable(row.task_id) if row.task_id else "-"
