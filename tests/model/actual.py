"""The app itself, on a real database: what is delivered to it, and what then stands there."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from django.utils import timezone

from idempotency import Leased, OnDoubt, Transactional, Verdict, current_attempt, execution
from idempotency.attempts import Delivery
from idempotency.calls import Call
from idempotency.digests import digest
from idempotency.events import told
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage, Reason
from idempotency.parking import give_up, park
from idempotency.querysets import Claim
from idempotency.storage import storage_for
from tests.jobs.models import Effect
from tests.model.process import HOUR, Process, Refused, Unclear, end_as, name_of, said_of
from tests.model.record import COLUMNS, LEASE, RETENTION, TOLD, WINDOW, Attempt, Ending, Policy

SCOPE = "tests.model"


class Message(Delivery):
    """A message of a broker: it is parked as Celery's would be."""

    def __init__(self, actual: Actual, attempt: Attempt) -> None:
        self.task_id = attempt.task_id
        self.redelivered = self.repeated = attempt.redelivered

    def park(self, using: str, key_hash: UUID, generation: int | None) -> bool:
        return self.wait(using, key_hash, Reason.IN_DOUBT, generation=generation)

    def wait(self, using: str, key_hash: UUID, reason: Reason, **options: Any) -> bool:
        assert self.task_id
        return park(using, key_hash, reason, task_id=self.task_id, message=self.task_id, **options)


class Actual:
    """The keys of one example."""

    def __init__(self, using: str, keys: str) -> None:
        self.using = using
        self.run = uuid4().hex
        self.keys = {
            (key, fingerprint): digest(
                [self.run, key], scope=SCOPE, fingerprint=fingerprint, secrets=()
            )
            for key in keys
            for fingerprint in "fg"
        }
        self.hashes = {key: self.keys[key, "f"].hashes[0] for key in keys}
        self.by_hash = {key_hash: key for key, key_hash in self.hashes.items()}
        self.fingerprints = {
            each.digests[0].fingerprint: name for (_, name), each in self.keys.items()
        }
        #: Claims by the name of their attempt.
        self.claims: dict[UUID, str] = {}
        #: Effects that no database knows of: key, epoch and provider key.
        self.outside: list[tuple[str, int, UUID]] = []
        #: The provider key of each key and generation.
        self.provider_keys: dict[tuple[str, int], UUID] = {}
        self.published: Counter[str] = Counter()
        self.is_broker_up = True
        #: What the provider says of each key.
        self.answers: Mapping[str, str] = {}
        self.asked: list[tuple[str, UUID]] = []

    # -- what a delivery needs ---------------------------------------------------------------

    def policy(self, policy: Policy) -> Transactional | Leased:
        if not policy.is_leased:
            return Transactional()
        windows = {"provider_window": WINDOW * HOUR} if policy.name == "retry" else {}
        return Leased(
            on_doubt=self.ask if policy.name == "ask" else OnDoubt(policy.name),
            lease=LEASE * HOUR,
            marks_effect=policy.marks_effect,
            no_effect_errors=(Refused,),
            **windows,
        )

    def ask(self, doubt: Any) -> Verdict:
        key = self.by_hash[doubt.key_hash]
        self.asked.append((key, doubt.provider_key))
        answer = self.answers[key]
        if answer == "raises":
            raise TimeoutError
        return self.verdict(answer, TOLD)

    @staticmethod
    def verdict(answer: str, result: str) -> Verdict:
        if answer == "happened":
            return Verdict.happened(json.loads(result))
        return Verdict.did_not_happen() if answer == "did not" else Verdict.unknown()

    def publish(self, message: str) -> None:
        if not self.is_broker_up:
            raise ConnectionError
        self.published[message] += 1

    def call(self, attempt: Attempt, policy: Policy, key: str, delivery: Delivery) -> Call:
        return Call(
            function=lambda: None,
            key=self.keys[key, attempt.fingerprint],
            policy=self.policy(policy),
            delivery=delivery,
            using=self.using,
            retention=RETENTION * HOUR,
        )

    def deliver(self, process: Process, attempt: Attempt) -> Any:
        message = Message(self, attempt)
        said = process.deliver(self.call(attempt, attempt.policy, attempt.key, message))
        if said_of(said) == "Exhausted":  # as Celery's side does
            assert message.wait(self.using, self.hashes[attempt.key], Reason.EXHAUSTED)
        return said

    def give_up(self, attempt: Attempt) -> None:
        about = told(
            using=self.using,
            key_hash=self.hashes[attempt.key],
            scope=SCOPE,
            task_id=attempt.task_id,
        )
        give_up(about, task_id=attempt.task_id, message=attempt.task_id)

    # -- what a body does --------------------------------------------------------------------

    def add_row(self, key: str, epoch: int, kind: str) -> None:
        Effect.objects.using(self.using).create(
            key=self.run, note=f"{key} {epoch} {kind}", pid=os.getpid()
        )

    def settle(self, attempt: Attempt, result: str) -> None:
        with current_attempt().settling(json.loads(result)):
            self.add_row(attempt.key, attempt.epoch, "settled")

    def renew(self, attempt: Attempt) -> str:
        """As its heartbeat does."""
        return "renewed" if storage_for(self.using).renew(self.claim(attempt)) else "lost"

    def late_writes(self, attempt: Attempt) -> set[str]:
        """Which of its writes still do something."""
        storage, claim = storage_for(self.using), self.claim(attempt)
        writes: dict[str, Callable[[], bool]] = {
            "begin": lambda: storage.begin_effect(claim, policy=attempt.policy.name),
            "succeed": lambda: storage.succeed(claim, result=TOLD),
            "fail": lambda: storage.fail(claim, Refused(), repeats=False),
            "leave": lambda: storage.leave_in_doubt(claim, Unclear()),
            "happened": lambda: storage.resolve_own_doubt(claim, happened=True, result=TOLD),
            "did not": lambda: storage.resolve_own_doubt(claim, happened=False),
        }
        with storage.transaction():
            return {name for name, write in writes.items() if write()}

    def claim(self, attempt: Attempt) -> Claim:
        [claim_id] = [each for each, name in self.claims.items() if name == attempt.name]
        return Claim(
            id=claim_id,
            key_hash=self.hashes[attempt.key],
            retention=RETENTION * HOUR,
            lease=LEASE * HOUR,
        )

    def join(self, attempt: Attempt, key: str, epoch: int, ending: Ending, policy: Policy) -> Any:
        def body() -> Any:
            self.add_row(key, epoch, "row")
            return end_as(ending)

        call = self.call(attempt, policy, key, Delivery())
        return execution.run(replace(call, function=body))

    # -- what stands in the database ---------------------------------------------------------

    def shown(self) -> dict[str, dict[str, Any] | None]:
        now = timezone.now()
        hashes = list(self.by_hash)
        records = IdempotencyRecord.objects.using(self.using).filter(key_hash__in=hashes)
        found = {self.by_hash[record.key_hash]: self._columns(record, now) for record in records}
        return {key: found.get(key) for key in self.hashes}

    def _columns(self, record: IdempotencyRecord, now: datetime) -> dict[str, Any]:
        columns = {name: getattr(record, name) for name in COLUMNS if name != "claim"}
        hours = {
            name: round((time - now) / HOUR * 2) / 2
            for name, time in columns.items()
            if isinstance(time, datetime)
        }
        return (
            columns
            | hours
            | {
                "claim": record.claim_id and self.claims.get(record.claim_id, "unknown"),
                "fingerprint": record.fingerprint and self.fingerprints[record.fingerprint],
                "error_class": name_of(record.error_class),
            }
        )

    def claim_of(self, key: str) -> UUID | None:
        records = IdempotencyRecord.objects.using(self.using)
        return records.values_list("claim_id", flat=True).get(key_hash=self.hashes[key])

    def events(self) -> dict[str, list[str]]:
        events: dict[str, list[str]] = {key: [] for key in self.hashes}
        rows = IdempotencyEvent.objects.using(self.using).filter(key_hash__in=list(self.by_hash))
        for key_hash, kind in rows.order_by("id").values_list("key_hash", "kind"):
            events[self.by_hash[key_hash]].append(kind)
        return events

    def parked(self) -> dict[tuple[str, str], str]:
        rows = ParkedMessage.objects.using(self.using).filter(key_hash__in=list(self.by_hash))
        return {(self.by_hash[row.key_hash], row.task_id): row.reason for row in rows}

    def rows(self) -> Counter[tuple[str, int, str]]:
        notes = Effect.objects.using(self.using).filter(key=self.run)
        found = (note.split() for note in notes.values_list("note", flat=True))
        return Counter((key, int(epoch), kind) for key, epoch, kind in found)

    def remove(self) -> None:
        """So that the next example has a small database."""
        for model in (IdempotencyRecord, IdempotencyEvent, ParkedMessage):
            model._default_manager.using(self.using).all().delete()
        Effect.objects.using(self.using).all().delete()
