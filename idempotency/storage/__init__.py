"""The durable steps, one class for each vendor."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from idempotency.storage.base import Storage
from idempotency.storage.postgresql import PostgreSQL
from idempotency.storage.rows import Entry, Look, Seen

__all__ = ["Entry", "Look", "Seen", "Storage", "storage_for"]


def storage_for(using: str) -> Storage:
    """The storage of the database alias ``using``.

    Raises:
        ImproperlyConfigured: The alias is not PostgreSQL.
    """
    vendor = connections[using].vendor
    if vendor != "postgresql":
        raise ImproperlyConfigured(
            f"The database {using!r} is {vendor}. Records live on PostgreSQL: name such a database "
            "in IDEMPOTENCY['DATABASE'], or pass using=."
        )
    return PostgreSQL(using)
