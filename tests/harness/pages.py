"""Records by the page of PostgreSQL's in which they lie."""

from django.db import connection

#: Four records with such a result fill a page, and a page is the smallest batch of a purge.
QUARTER = "x" * 1800


def without_pages() -> None:
    """Begin at the first page: a test before may have rolled back what it wrote, and left some."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE idempotency_record")
