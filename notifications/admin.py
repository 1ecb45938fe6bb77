"""Both models to look at; they are made by the tasks only."""

from django.contrib import admin
from django.http import HttpRequest

from notifications.models import Campaign, Message


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg] # not generic at run time
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Campaign)
class CampaignAdmin(ReadOnly):
    list_display = ["name", "created_at"]
    search_fields = ["name"]


@admin.register(Message)
class MessageAdmin(ReadOnly):
    list_display = ["recipient", "channel", "subject", "status", "answer", "sent_at", "campaign"]
    list_filter = ["status", "channel", "campaign"]
    list_select_related = ["campaign"]
    search_fields = ["recipient", "subject"]
