"""The durable steps, one class for each vendor."""

from __future__ import annotations

from functools import cache

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from idempotency.storage.base import Storage
from idempotency.storage.rows import Entry, Look, Seen

__all__ = ["Entry", "Look", "Seen", "Storage", "storage_for"]

VENDORS = {
    "postgresql": "idempotency.storage.postgresql.PostgreSQL",
    "sqlite": "idempotency.storage.sqlite.SQLite",
}


def storage_for(using: str) -> Storage:
    """The storage of the database alias ``using``.

    Raises:
        ImproperlyConfigured: The alias is neither PostgreSQL nor SQLite.
    """
    vendor = connections[using].vendor
    if vendor not in VENDORS:
        raise ImproperlyConfigured(
            f"The database {using!r} is {vendor}. Records live on PostgreSQL, and for development "
            "on SQLite: name such a database in IDEMPOTENCY['DATABASE'], or pass using=."
        )
    return _class_for(vendor)(using)


@cache
def _class_for(vendor: str) -> type[Storage]:
    """Imported on first use: each needs the driver of its vendor, and no other."""
    found: type[Storage] = import_string(VENDORS[vendor])
    return found
