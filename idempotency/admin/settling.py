"""Settling in the admin: from the list and from the page of a record, each after a page that says
what will happen, guarded by what that page has shown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import unquote
from django.contrib.auth import get_permission_codename
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.db import connections, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, override

from idempotency.admin.asking import described, offered, read, records_of
from idempotency.admin.base import Mixin
from idempotency.admin.display import grouped
from idempotency.admin.export import EXPORTS
from idempotency.admin.operations import OPERATIONS, Operation, Outcome, Purge, Shown
from idempotency.admin.telling import told
from idempotency.conf import conf
from idempotency.models import ParkedMessage
from idempotency.parking import Published, publish_parked
from idempotency.querysets import RecordQuerySet
from idempotency.redaction import redacted

logger = logging.getLogger("idempotency")

Action = Callable[[Any, HttpRequest, RecordQuerySet], HttpResponse | None]


def _action(operation: Operation) -> Action:
    """The operation as an action of the list."""

    @admin.action(
        permissions=[operation.permission], description=format_lazy("{}…", operation.label)
    )
    def act(
        modeladmin: SettlingAdminMixin, request: HttpRequest, queryset: RecordQuerySet
    ) -> HttpResponse | None:
        pks = list(queryset.values_list("pk", flat=True)[: modeladmin.bulk_limit + 1])
        return modeladmin.ask(request, operation, pks)

    act.__name__ = operation.name
    return act


class SettlingAdminMixin(Mixin):
    """Resolve, release, allow again, purge. Mix it before the records' own mixin."""

    actions: Any = [*map(_action, OPERATIONS.values()), *EXPORTS]
    #: How many records are settled at once, at most.
    bulk_limit = 1000

    # -- permissions: each its own, and none implied by another ------------------------------------

    def _may(self, request: HttpRequest, act: str) -> bool:
        user: Any = request.user
        codename = get_permission_codename(act, self.opts)
        return bool(user.has_perm(f"{self.opts.app_label}.{codename}"))

    def has_resolve_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "resolve")

    def has_release_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "release")

    def has_allow_again_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "allow_again")

    def has_purge_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "purge")

    def _permitted(self, request: HttpRequest, operation: Operation) -> bool:
        permitted = getattr(self, f"has_{operation.permission}_permission")
        return self.has_view_permission(request) and permitted(request)

    def _visible(self, request: HttpRequest, pks: list[int]) -> list[int]:
        """Those of them that this user may see, in the list and by themselves."""
        rows = self.get_queryset(request).filter(pk__in=pks).defer("result", "error_message")
        return [row.pk for row in rows if self.has_view_permission(request, row)]

    # -- pages -------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.settle_view)
        # Each record is settled in a transaction of its own, and published after its commit: under
        # ATOMIC_REQUESTS both would be the request's.
        for alias in connections:
            view = transaction.non_atomic_requests(using=alias)(view)
        name = f"{self.opts.app_label}_{self.opts.model_name}_settle"
        return [path("settle/<str:name>/", view, name=name), *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        for name in request.POST.getlist("action"):
            if name in OPERATIONS and not self._permitted(request, OPERATIONS[name]):
                raise PermissionDenied
        return super().changelist_view(request, extra_context)

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> Any:
        """With a button for all that can be done to this record by this user."""
        if obj is not None:
            fitting = offered(obj.pk)
            context["settling"] = [
                (operation, self._address(request, "settle", operation.name))
                for operation in OPERATIONS.values()
                if operation.name in fitting and self._permitted(request, operation)
            ]
        return super().render_change_form(request, context, add, change, form_url, obj)

    def settle_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Ask, then do it: the page that asks posts what it has shown."""
        operation = OPERATIONS.get(name)
        if operation is None:
            raise Http404
        if not self._permitted(request, operation):
            raise PermissionDenied
        if request.method != "POST":  # somebody had to log in first
            return self._back(request)
        if "seen" not in request.POST:
            record = self.get_object(request, unquote(request.POST.get("record", "")))
            return self.ask(request, operation, [record.pk] if record else []) or self._back(
                request
            )
        try:
            shown = read(request.POST["seen"], operation)
        except signing.BadSignature:
            said = _("That page is not of this site, or of another version. Nothing was changed.")
            self.message_user(request, said, messages.ERROR)
            return self._back(request)
        form = operation.form(request.POST)
        if not form.is_valid():
            pks = [each.record.pk for each in shown]
            return self.ask(request, operation, pks, form) or self._back(request)
        self._settle(request, operation, shown, form.cleaned_data)
        return self._back(request)

    def ask(
        self, request: HttpRequest, operation: Operation, pks: list[int], form: Any = None
    ) -> HttpResponse | None:
        """The page that says what will happen; None, and a message, if nothing can."""
        if len(pks) > self.bulk_limit:
            said = ngettext(
                "More than %(number)s record is selected, and so many are settled at once at most. "
                "Nothing was changed. Narrow the filter, or use the commands.",
                "More than %(number)s records are selected, and so many are settled at once at "
                "most. Nothing was changed. Narrow the filter, or use the commands.",
                self.bulk_limit,
            ) % {"number": grouped(self.bulk_limit)}
            self.message_user(request, said, messages.ERROR)
            return None
        visible = self._visible(request, pks)
        chosen = records_of(visible)
        fit = list(operation.fitting(chosen).defer("result", "error_message").order_by("-pk"))
        if not fit:
            said = _("%(operation)s: nothing to do. What was selected is left as it is: %(why)s.")
            said %= {"operation": operation.label, "why": operation.unfit}
            self.message_user(request, said, messages.WARNING)
            return None
        context = {
            **self.admin_site.each_context(request),
            **described(operation, fit, form or operation.form()),
            "title": operation.label,
            "opts": self.opts,
            "left_out": len(visible) - len(fit),
            "record": request.POST.get("record"),
            "address": self._address(request, "settle", operation.name),
            "back": self._back(request).url,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/idempotency/settling/ask.html", context)

    def _address(self, request: HttpRequest, page: str, *args: Any) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{page}"
        address = reverse(name, args=args, current_app=self.admin_site.name)
        filters: Any = {"opts": self.opts}
        filters["preserved_filters"] = self.get_preserved_filters(request)
        return add_preserved_filters(filters, address)

    def _back(self, request: HttpRequest) -> HttpResponseRedirect:
        """To where it was chosen: the page of the record, if it is still there, or the list."""
        record = self.get_object(request, unquote(request.POST.get("record", "")))
        if record is not None:
            return HttpResponseRedirect(self._address(request, "change", record.pk))
        return HttpResponseRedirect(self._address(request, "changelist"))

    # -- doing it, and saying what was done --------------------------------------------------------

    def _settle(
        self, request: HttpRequest, operation: Operation, shown: list[Shown], data: dict[str, Any]
    ) -> None:
        visible = self._visible(request, [each.record.pk for each in shown])
        meant = [each for each in shown if each.record.pk in visible]
        gone = len(shown) - len(meant)
        outcomes = []
        for outcome in operation.settle_all(meant, by=request.user.get_username(), **data):
            outcomes.append(self._with_history(request, operation, outcome, data["reason"]))
        # Only now: a broker that does not answer keeps no doubt from being resolved.
        published = _publish([each.record.key_hash for each in outcomes if each.is_free])
        for level, said in told(operation, outcomes, gone, published):
            self.message_user(request, said, level)

    def _with_history(
        self, request: HttpRequest, operation: Operation, outcome: Outcome, reason: str
    ) -> Outcome:
        if outcome.error is not None:
            return outcome
        user: Any = request.user
        with override(None):  # what is written down is English, whoever writes it
            said = f"{operation.label}: {redacted('note', reason)}"  # shown by pages not ours
        try:
            LogEntry.objects.log_actions(
                user_id=user.pk,
                queryset=[outcome.record],
                action_flag=DELETION if isinstance(operation, Purge) else CHANGE,
                change_message=said,
                single_object=True,
            )
        except Exception:  # it is settled all the same, and its messages are published
            logger.exception("The history of key %s lacks this.", outcome.record.key_hash.hex)
            return replace(outcome, has_history=False)
        return outcome


def _publish(key_hashes: list[UUID]) -> Published:
    """Publish what waited for them, until a message cannot be."""
    done = Published()
    for number, key_hash in enumerate(key_hashes, 1):
        done += publish_parked(key_hash)
        if done.waiting:  # of the next ones each would wait for a broker that does not answer
            rest = ParkedMessage.objects.using(conf().DATABASE)
            rest = rest.filter(key_hash__in=key_hashes[number:])
            return done + Published(waiting=rest.count())
    return done
