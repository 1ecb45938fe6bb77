"""A list as a file, streamed: however many rows it has, a few at a time are in memory."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.contrib import admin
from django.core.handlers.asgi import ASGIRequest
from django.db.models import Model, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.translation import gettext_lazy as _

from idempotency.admin.display import utc
from idempotency.models import IdempotencyRecord
from idempotency.redaction import redact

#: Rows that are read at once: a result can be as large as MAX_RESULT_BYTES.
CHUNK = 100
#: What makes a formula of a cell, wide forms too. (owasp.org/www-community/attacks/CSV_Injection)
FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 the wide forms are meant

Row = dict[str, Any]
Lines = Callable[[list[str], Iterator[list[Row]]], Iterator[str]]


def in_chunks(rows: QuerySet[Any]) -> Iterator[list[Any]]:
    """The newest first, each chunk by a statement of its own: no transaction is held open and no
    cursor of the server, which a pooler in transaction mode would lose."""
    rows = rows.order_by("-pk").defer(None)
    chunk = list(rows[:CHUNK])
    while chunk:
        yield chunk
        chunk = list(rows.filter(pk__lt=chunk[-1].pk)[:CHUNK])


def columns_of(model: type[Model]) -> list[str]:
    """Those of the table; of a record the provider key too, by which one asks a provider."""
    names = [field.attname for field in model._meta.concrete_fields]
    return [*names, "provider_key"] if issubclass(model, IdempotencyRecord) else names


def plain(value: Any) -> Any:
    """A value as it is written: instants in UTC to the microsecond, durations in seconds."""
    if isinstance(value, datetime):
        return utc(value).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.hex if isinstance(value, UUID) else value


def _row(row: Any, names: list[str]) -> Row:
    row = redact(row)
    told = {name: plain(getattr(row, name)) for name in names}
    if "provider_key" in told:
        told["provider_key"] = str(row.provider_key)  # with hyphens, as the provider was told
    return told


def as_csv(names: list[str], chunks: Iterator[list[Row]]) -> Iterator[str]:
    """Every cell is quoted, and none is taken for a formula."""
    yield _csv_lines([names])
    for chunk in chunks:
        yield _csv_lines([[_harmless(value) for value in row.values()] for row in chunk])


def _csv_lines(cells: list[list[Any]]) -> str:
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL).writerows(cells)
    return file.getvalue()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def as_json(names: list[str], chunks: Iterator[list[Row]]) -> Iterator[str]:
    """One array, with a row to the line; a result is the text that is stored, byte for byte."""
    before = "[\n"
    for chunk in chunks:
        yield before + ",\n".join(map(json.dumps, chunk))
        before = ",\n"
    yield "\n]\n" if before == ",\n" else "[]\n"


def streamed(
    modeladmin: Any,
    request: HttpRequest,
    rows: QuerySet[Any],
    lines: Lines,
    suffix: str,
    content_type: str,
) -> StreamingHttpResponse:
    names = columns_of(rows.model)
    chunks = (
        [_row(row, names) for row in chunk if modeladmin.has_view_permission(request, row)]
        for chunk in in_chunks(rows)
    )
    parts = lines(names, filter(None, chunks))
    return StreamingHttpResponse(
        # Django would read a plain iterator to its end first. (StreamingHttpResponse.__aiter__)
        _one_by_one(parts) if isinstance(request, ASGIRequest) else parts,
        content_type=content_type,
        headers={
            "Content-Disposition": f'attachment; filename="{rows.model._meta.db_table}.{suffix}"'
        },
    )


async def _one_by_one(parts: Iterator[str]) -> AsyncIterator[str]:
    def following() -> str | None:
        return next(parts, None)

    while (part := await sync_to_async(following)()) is not None:
        yield part


def _action(name: str, description: Any, lines: Lines, content_type: str) -> Any:
    @admin.action(permissions=["view"], description=description)
    def export(
        modeladmin: Any, request: HttpRequest, queryset: QuerySet[Any]
    ) -> StreamingHttpResponse:
        return streamed(modeladmin, request, queryset, lines, name, content_type)

    export.__name__ = f"export_{name}"
    return export


#: Actions of a list: what is selected, or with "select all" what the list is narrowed to.
EXPORTS = [
    _action("csv", _("Export as CSV"), as_csv, "text/csv; charset=utf-8"),
    _action("json", _("Export as JSON"), as_json, "application/json"),
]
