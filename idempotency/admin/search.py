"""One search box: for a key, for its hash or the first digits of that, for a task id."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain
from typing import Any
from uuid import UUID

from django.db.models import Max, Q

from idempotency import jobs
from idempotency.lookup import hash_range, hashes_of, hashes_of_message
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage
from idempotency.states import State

logger = logging.getLogger("idempotency")

#: Nothing indexes a task id: it is looked for in so many of the newest ids of a table.
NEWEST = 20_000
#: And in so many of the newest of each state but success: they lie far apart, so that each costs
#: more to read, and a job that fails all the time leaves millions.
OF_STATE = 5_000
UNSUCCESSFUL = (State.IN_DOUBT, State.RUNNING, State.FAILED)
#: Of one task id: more keys than a message ever has.
KEYS = 100


def known_scopes() -> list[str]:
    """The scopes of the project's jobs; of those loaded so far, if a module cannot be imported."""
    try:
        return sorted(jobs.all_jobs())
    except Exception:  # whatever is broken in a module of tasks, the admin is where one looks first
        logger.exception("The project's tasks cannot be imported: some scopes may be missing.")
        return sorted(jobs.jobs)


def keys_named(text: str, using: str) -> Q:
    """What has the key that somebody typed, as ``scope: key`` or in all scopes of the project; or
    has its hash, the first digits of its hash, or the task id of one of its messages."""
    scopes = known_scopes()
    scope, _, key = text.partition(": ")
    hashes = {
        *hashes_of(text, scopes),
        *hashes_of(key, [scope]),
        *hashes_of_message(text, scopes),
        *_hashes_of_task(text, using),
    }
    named = Q(key_hash__in=hashes)
    digits = hash_range(text)
    return named if digits is None else named | Q(key_hash__range=digits)


def newest(rows: Any, number: int) -> Any:
    """The rows with the newest ids: so that a look without an index has an end."""
    last = rows.model._default_manager.using(rows.db).aggregate(last=Max("pk"))["last"] or 0
    return rows.filter(pk__gt=last - number)


def newest_of(rows: Any, held: Q, number: int, *, oldest: bool = False) -> Any:
    """The rows that are among the newest of those that an index holds, or among the oldest; the
    same rows if it holds no more than so many."""
    order, beyond = ("pk", "pk__lt") if oldest else ("-pk", "pk__gt")
    index = rows.model._default_manager.using(rows.db).filter(held).order_by(order)
    edge = list(index.values_list("pk", flat=True)[number : number + 1])
    return rows.filter(**{beyond: edge[0]}) if edge else rows


def _hashes_of_task(task_id: str, using: str) -> Iterator[UUID]:
    records = IdempotencyRecord.objects.using(using)
    events = IdempotencyEvent.objects.using(using)
    places = (
        *(
            newest_of(records.filter(state=state), Q(state=state), OF_STATE)
            for state in UNSUCCESSFUL
        ),
        newest(records, NEWEST),
        newest(events, NEWEST),
        ParkedMessage.objects.using(using),
    )
    return chain.from_iterable(
        place.filter(task_id=task_id).order_by().values_list("key_hash", flat=True)[:KEYS]
        for place in places
    )
