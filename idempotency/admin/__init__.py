"""Records, events and parked messages in Django's admin."""

from __future__ import annotations

from django.contrib import admin

from idempotency.admin.base import ModelAdmin
from idempotency.admin.events import EventAdminMixin
from idempotency.admin.parked import ParkedMessageAdminMixin
from idempotency.admin.records import RecordAdminMixin
from idempotency.admin.settling import SettlingAdminMixin
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage


@admin.register(IdempotencyRecord)
class RecordAdmin(SettlingAdminMixin, RecordAdminMixin, ModelAdmin):
    pass


@admin.register(IdempotencyEvent)
class EventAdmin(EventAdminMixin, ModelAdmin):
    pass


@admin.register(ParkedMessage)
class ParkedMessageAdmin(ParkedMessageAdminMixin, ModelAdmin):
    pass
