"""The example project has one page, the admin, and begins with what needs somebody there."""

from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:idempotency_idempotencyrecord_changelist")),
    path("admin/", admin.site.urls),
]
