"""A record leads to the result of its task that django-celery-results has kept."""

import re
from html import unescape

import pytest
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.urls import path

from idempotency.models import IdempotencyRecord
from project.celery import app
from tests.admin.pages import shown
from tests.admin.records import made

pytest.importorskip(
    "django_celery_results", reason="SKIPPED, no link was followed: it is not installed."
)
pytestmark = pytest.mark.django_db


@pytest.fixture
def backend(settings):
    """The backend of a project that has it installed, with its admin."""
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django_celery_results"]
    call_command("migrate", "django_celery_results", verbosity=0)
    from django_celery_results.admin import TaskResultAdmin  # only now it can be imported
    from django_celery_results.backends import DatabaseBackend
    from django_celery_results.models import TaskResult

    site = admin.AdminSite(name="admin")
    site.register(TaskResult, TaskResultAdmin)
    site.register(IdempotencyRecord, type(admin.site._registry[IdempotencyRecord]))
    settings.ROOT_URLCONF = (path("admin/", site.urls),)
    yield DatabaseBackend(app=app)
    for model in list(admin.site._registry):
        if model._meta.app_label == "django_celery_results":
            admin.site.unregister(model)
    ContentType.objects.clear_cache()  # the migration is rolled back with the test


def test_a_record_leads_to_the_result_that_celery_has_kept(admin_client, backend):
    backend.store_result("5f0e 1/2", {"sent": 41}, "SUCCESS")
    backend.store_result("another", {"sent": 42}, "SUCCESS")
    text = shown(admin_client, made(task_id="5f0e 1/2"))
    [address] = re.findall(r'<a href="([^"]*)">Task result</a>', text)
    listed = admin_client.get(unescape(address))
    [result] = listed.context_data["cl"].result_list
    assert (result.task_id, result.result) == ("5f0e 1/2", '{"sent": 41}')


def test_a_record_without_a_task_leads_to_none(admin_client, backend):
    assert ">Task result</a>" not in shown(admin_client, made())
