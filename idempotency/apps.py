"""The Django application."""

from importlib import import_module
from importlib.util import find_spec

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class IdempotencyConfig(AppConfig):
    """``INSTALLED_APPS = [..., "idempotency"]``."""

    name = "idempotency"
    verbose_name = _("Idempotency")

    def ready(self) -> None:
        import_module("idempotency.checks")
        import_module("idempotency.logs")
        if find_spec("celery"):
            import_module("idempotency.contrib.celery")
            import_module("idempotency.contrib.celery_checks")
            import_module("idempotency.contrib.celery_doctor")
            import_module("idempotency.contrib.celery_tasks")
