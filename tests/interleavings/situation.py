"""What a situation is: who acts on one key, and what must be true whatever their order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from idempotency.digests import Key, digest
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage
from tests.interleavings.actors import Fate
from tests.jobs.models import Effect


@dataclass(frozen=True, slots=True)
class Sent:
    """One outside effect."""

    actor: int
    provider_key: UUID


LEFT = """
SELECT ARRAY(SELECT pid FROM jobs_effect ORDER BY id),
       ARRAY(SELECT state FROM idempotency_record ORDER BY id),
       ARRAY(SELECT result FROM idempotency_record WHERE state = 'succeeded'),
       coalesce((SELECT sum(attempt) FROM idempotency_record), 0),
       ARRAY(SELECT task_id FROM idempotency_parked_message)
"""


class Left(NamedTuple):
    """What a schedule has left in the tables."""

    #: Which actors have committed a row of their body.
    rows: list[int]
    #: Of the records.
    states: list[str]
    #: Of the successes.
    results: list[str]
    attempts: int
    #: The messages that wait.
    parked: list[str]


@dataclass
class Scene:
    """One schedule: its key, and all that was seen of it from outside of our code."""

    number: int
    situation: Situation
    outside: list[Sent] = field(default_factory=list)
    #: (what, actor) in order: who began, who sent, what an operator saw.
    log: list[tuple[str, int]] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    #: Of each actor: what it returned, or the error that ended it.
    outcomes: list[Any] = field(default_factory=list)
    #: What the search counts.
    noted: set[str] = field(default_factory=set)

    def key(self, secrets: tuple[str, ...] = ()) -> Key:
        return digest(self.number, scope="interleavings", secrets=secrets)

    def left(self) -> Left:
        """What is committed. Each schedule begins with empty tables, so it is all of this key."""
        with connection.cursor() as cursor:
            cursor.execute(LEFT)
            return Left(*cursor.fetchone())

    def lapse(self) -> None:
        """The lease runs out, by the database's clock."""
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE idempotency_record"
                " SET lease_expires_at = clock_timestamp() - '1 s'::interval"
                " WHERE lease_expires_at > clock_timestamp()"
            )

    def clear(self) -> None:
        tables = [
            m._meta.db_table for m in (Effect, IdempotencyRecord, IdempotencyEvent, ParkedMessage)
        ]
        with connection.cursor() as cursor:
            cursor.execute(";".join(f"DELETE FROM {table}" for table in tables))  # noqa: S608 ours


class NoError(Exception):
    """Raised by no body."""


Act = Callable[[Scene, int], Any]
Check = Callable[[Scene], None]


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Who acts on one key.

    Attributes:
        acts: Of each actor, by its number; the deliveries come first.
        deliveries: How many of them are deliveries: these may be struck by a fault.
        check: The oracle, after each schedule. It may deliver once more.
        before: What has happened under the key before.
        around: What is different while the situation is explored.
        faults: Of which each schedule has one at most.
        error: Of the bodies themselves.
        reaches: What some schedules come to, and no other situation's.
        may_defer_all: Whether all may be busy for each other, for a while.
        last: The number of the act that is delivered after all of them.
        preemptions: The limit of the search; None is none.
        all_points: Whether also what no other actor can see is a point.
    """

    name: str
    acts: tuple[Act, ...]
    deliveries: int
    check: Check
    before: Callable[[Scene], None] | None = None
    around: tuple[Callable[[], AbstractContextManager[Any]], ...] = ()
    faults: tuple[Fate, ...] = ()
    error: type[Exception] = NoError
    reaches: frozenset[str] = frozenset()
    may_defer_all: bool = False
    last: int = 0
    preemptions: int | None = None
    all_points: bool = False
