"""A whole table in batches, without an index on what is looked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import connections
from django.db.models import BooleanField, QuerySet
from django.db.models.expressions import RawSQL

#: About so many records fill a page of 8 KiB: one with a short result takes 205 bytes.
ROWS_OF_A_PAGE = 40

PAGES = "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::bigint"

# A TID range scan (PostgreSQL 14): it reads these pages and no others, and no index. A row that was
# updated meanwhile is judged anew, wherever it lies then. (PostgreSQL manual, "Transaction
# Isolation"; src/backend/executor/nodeTidrangescan.c)
WITHIN = "{table}.ctid >= %s::tid AND {table}.ctid < %s::tid"


def batches(rows: QuerySet[Any], size: int) -> Iterator[QuerySet[Any]]:
    """The rows in batches, each of which reads about ``size`` rows of the table.

    On PostgreSQL by its pages, in the order in which they lie there: a row that is written while
    this goes on may come to lie in pages that were read before, or behind the last.
    """
    by = _by_pages if connections[rows.db].vendor == "postgresql" else _by_ids
    return by(rows, size)


def _by_pages(rows: QuerySet[Any], size: int) -> Iterator[QuerySet[Any]]:
    connection = connections[rows.db]
    table = connection.ops.quote_name(rows.model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(PAGES, [table])
        [pages] = cursor.fetchone()
    step = max(size // ROWS_OF_A_PAGE, 1)
    for low in range(0, pages, step):
        bounds = [f"({low},0)", f"({low + step},0)"]
        within = RawSQL(WITHIN.format(table=table), bounds, BooleanField())  # noqa: S611 a name of ours
        yield rows.filter(within)


def _by_ids(rows: QuerySet[Any], size: int) -> Iterator[QuerySet[Any]]:
    """By ranges of the primary key, whatever gaps purges have left between them."""
    ids = rows.model._default_manager.using(rows.db).order_by("pk").values_list("pk", flat=True)
    low = 0
    while True:
        behind = ids.filter(pk__gt=low)
        last = [*behind[size - 1 : size]] or [*behind.reverse()[:1]]
        if not last:
            return
        yield rows.filter(pk__gt=low, pk__lte=last[0])
        low = last[0]
