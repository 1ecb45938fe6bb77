"""A project whose admin is django-unfold's."""

import pytest
from django.contrib.admin import helpers
from django.contrib.staticfiles import finders
from django.urls import path

from idempotency.admin import RecordAdminMixin, SettlingAdminMixin
from idempotency.models import IdempotencyRecord

pytest.importorskip("unfold", reason="SKIPPED, nobody looked at it: django-unfold is missing.")


@pytest.fixture
def unfolded(settings, monkeypatch):
    """As its documentation says: before ``django.contrib.admin``, and with its ModelAdmin."""
    settings.INSTALLED_APPS = ["unfold.apps.BasicAppConfig", *settings.INSTALLED_APPS]
    finders.get_finder.cache_clear()
    for name in ("AdminForm", "Fieldline"):  # Unfold puts its own there, and they stay
        monkeypatch.setattr(helpers, name, getattr(helpers, name))
    from unfold.admin import ModelAdmin  # only now it can be imported
    from unfold.sites import UnfoldAdminSite

    class RecordAdmin(SettlingAdminMixin, RecordAdminMixin, ModelAdmin):
        pass

    site = UnfoldAdminSite(name="admin")
    site.register(IdempotencyRecord, RecordAdmin)
    settings.ROOT_URLCONF = (path("admin/", site.urls),)
    yield site
    finders.get_finder.cache_clear()
