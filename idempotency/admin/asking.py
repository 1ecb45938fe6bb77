"""What the page shows that asks before records are settled, and what it gives back of that."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.core import signing
from django.db.models import Count, Exists, OuterRef

from idempotency.admin.operations import OPERATIONS, Operation, Shown
from idempotency.conf import conf
from idempotency.models import IdempotencyRecord, ParkedMessage
from idempotency.querysets import RecordQuerySet

#: What the page that asks shows of the records; all of them are meant.
SHOWN = 20
TIMES = ("effect_begun_at", "exhausted_at")
COLUMNS = ("pk", "key_hash", "scope", "state", "attempt", "generation", "claim_id", *TIMES)


def records_of(pks: list[int]) -> RecordQuerySet:
    return IdempotencyRecord.objects.using(conf().DATABASE).filter(pk__in=pks)


def offered(pk: int) -> set[str]:
    """The names of the operations that fit a record, by one statement."""
    itself = IdempotencyRecord.objects.using(conf().DATABASE).filter(pk=OuterRef("pk"))
    fits = {name: Exists(operation.fitting(itself)) for name, operation in OPERATIONS.items()}
    found = records_of([pk]).annotate(**fits).values(*fits).first() or {}
    return {name for name, fit in found.items() if fit}


def described(operation: Operation, fit: list[IdempotencyRecord], form: Any) -> dict[str, Any]:
    """What the page says of the records."""
    records = records_of([record.pk for record in fit])
    live = set(operation.live(records).values_list("pk", flat=True))
    doubts = set(operation.doubts(records).values_list("pk", flat=True))
    waiting = {key_hash: (kept, total) for key_hash, kept, total in _waiting(fit)}
    rows = [
        {
            "record": record,
            "is_live": record.pk in live,
            "is_doubt": record.pk in doubts,
            "parked": waiting.get(record.key_hash, (0, 0))[1],
        }
        for record in fit
    ]
    free = [row["record"].key_hash for row in rows if not row["is_doubt"]]
    if not live:
        form.fields.pop("force", None)
    kept, total = (sum(waiting.get(h, (0, 0))[column] for h in free) for column in (0, 1))
    return {
        "operation": operation,
        "form": form,
        "seen": _seal(rows, operation),
        "rows": rows[:SHOWN],
        "more": len(rows[SHOWN:]),
        "number": len(rows),
        "live": len(live),
        "doubts": len(doubts),
        "to_publish": kept,
        "not_kept": total - kept,
        "unsent": sum(key_hash not in waiting for key_hash in free) if operation.runs else 0,
    }


def _waiting(fit: list[IdempotencyRecord]) -> Any:
    """Of each key for which messages wait: how many are kept, and how many there are."""
    parked = ParkedMessage.objects.using(conf().DATABASE).order_by()
    parked = parked.filter(key_hash__in=[record.key_hash for record in fit])
    grouped = parked.values("key_hash").annotate(kept=Count("message"), total=Count("pk"))
    return grouped.values_list("key_hash", "kept", "total")


def _seal(rows: list[dict[str, Any]], operation: Operation) -> str:
    """What the page shows, for the request that follows: one field, since Django takes a thousand
    at most, and signed, since it decides what is meant. (DATA_UPLOAD_MAX_NUMBER_FIELDS)"""
    seen = [
        [_plain(getattr(row["record"], name)) for name in COLUMNS] + [row["is_live"]]
        for row in rows
    ]
    return signing.dumps(seen, salt=f"idempotency.{operation.name}", compress=True)


def read(seen: str, operation: Operation) -> list[Shown]:
    """What the page has shown.

    Raises:
        BadSignature: It was not written by us, or for another operation.
    """
    shown = []
    for *values, is_live in signing.loads(seen, salt=f"idempotency.{operation.name}"):
        columns = dict(zip(COLUMNS, values, strict=True))
        columns["key_hash"] = UUID(columns["key_hash"])
        columns["claim_id"] = columns["claim_id"] and UUID(columns["claim_id"])
        columns |= {name: columns[name] and datetime.fromisoformat(columns[name]) for name in TIMES}
        shown.append(Shown(IdempotencyRecord(**columns), is_live))
    return shown


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.hex if isinstance(value, UUID) else value
