"""The example app: notifications that are sent once."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    name = "notifications"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from notifications import status  # noqa: F401 connects its receiver to Celery
