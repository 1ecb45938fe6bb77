"""The durable steps, one class for each vendor."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from idempotency.storage.base import Storage
from idempotency.storage.rows import Entry, Look, Seen

__all__ = ["Entry", "Look", "Seen", "Storage", "storage_for"]

# Imported on first use: each needs the driver of its vendor, and no other.
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
    storage: Storage = import_string(VENDORS[vendor])(using)
    return storage
