"""Imported by a fork server before anything that needs Django, so that no child imports it."""

import gc

import django

django.setup()

from django.db import connections  # noqa: E402 not before Django is set up

from idempotency.storage import storage_for  # noqa: E402

storage_for(connections["default"].alias)  # both import what a vendor needs, and connect to nothing
gc.freeze()  # the children share it, and copy less
