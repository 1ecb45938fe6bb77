"""A delivery up to its body, as the model expects it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.model.books import Books
from tests.model.record import (
    GRACE,
    LEASE,
    MAX_REDELIVERIES,
    RETENTION,
    TRIES,
    WINDOW,
    Attempt,
    Record,
)


class Runs(Books):
    """Judges, claims, notes and begins."""

    # -- a delivery, up to its body ----------------------------------------------------------

    def judge(self, attempt: Attempt, key: str | None = None) -> str:
        key = key or attempt.key
        record = attempt.pending.get(key) or self.records.get(key)
        known = record if record is not None and not self.is_forgotten(record) else None
        if known is not None and (said := self._judge_record(attempt, known)):
            return said
        if self.locks.get(key) not in (None, attempt):
            return "AlreadyRunning"
        return (known and self._judge_claim(attempt, known)) or "body"

    def _judge_record(self, attempt: Attempt, record: Record) -> str | None:
        if record.state == "succeeded":
            return "KeyReused" if self._differs(attempt, record) else "replay"
        if record.state == "running" and self.is_live(record):
            return "AlreadyRunning"
        if record.exhausted_at is not None:
            return "Exhausted"
        return "doubt" if record.state == "in_doubt" else None

    def _judge_claim(self, attempt: Attempt, record: Record) -> str | None:
        if self.is_doubtful(record):
            return "doubt"
        # A provider has seen these arguments; what was rolled back, nobody.
        if record.policy not in (None, "transactional") and self._differs(attempt, record):
            return "KeyReused"
        if self.deaths(record) >= MAX_REDELIVERIES:
            return "doubt" if record.effect_begun_at is not None else "deaths"
        return None

    @staticmethod
    def _differs(attempt: Attempt, record: Record) -> bool:
        return record.fingerprint not in (None, attempt.fingerprint)

    def deliver(self, attempt: Attempt, answer: str) -> str:
        """``answer`` is what the provider says, if it is asked."""
        self.queue.discard(attempt.task_id)
        said = self._until_body(attempt, answer)
        if said == "replay":
            self.events[attempt.key].append("duplicate")
        elif said == "Exhausted":
            self.parked.setdefault((attempt.key, attempt.task_id), "exhausted")
        elif said in ("AlreadyRunning", "TransactionLost"):
            self.queue.add(attempt.task_id)
        if said == "body":
            self.policies[attempt.key, attempt.epoch].add(attempt.policy.name)
        return said

    def _until_body(self, attempt: Attempt, answer: str) -> str:
        if attempt.policy.is_leased:
            return self._insist(attempt, answer, self._claim)
        if not attempt.redelivered:
            said = self._insist(attempt, answer, self._begin)
            if said != "started before":
                return said
        attempt.tries = 0
        said = self._insist(attempt, answer, self._note)
        attempt.tries = 1
        return self._begin(attempt) if said == "body" else said

    def _insist(self, attempt: Attempt, answer: str, begin: Callable[[Attempt], str]) -> str:
        """Three times at most, since each time somebody may have been faster."""
        said: str | None = None
        while attempt.tries < TRIES:
            attempt.tries += 1
            said = self.judge(attempt)
            if said == "doubt":
                said = self._find_doubt(attempt, answer)
                if said is None:
                    continue
            elif said == "deaths":
                said = self._exhaust(attempt.key)
            elif said == "body":
                said = begin(attempt)
            return said
        return "TransactionLost"

    def _claim(self, attempt: Attempt) -> str:
        policy = attempt.policy
        seen = self._take(attempt, policy.name, LEASE, begins=not policy.marks_effect)
        if policy.name == "retry" and not attempt.repeats:
            self.records[attempt.key].repeat_until = self.now + WINDOW - LEASE
        if seen is not None:
            self.events[attempt.key].append("taken_over")
        return "body"

    def _note(self, attempt: Attempt) -> str:
        attempt.noted = True
        seen = self._take(attempt, "transactional", GRACE, begins=False)
        if seen is not None and seen.state == "running":
            self.events[attempt.key].append("taken_over")
        return "body"

    def _take(self, attempt: Attempt, policy: str, lease: float, *, begins: bool) -> Record | None:
        """A claim. What an earlier attempt may have done is still in doubt under it."""
        key, seen = attempt.key, self.records.get(attempt.key)
        self._renew_epoch(attempt, seen)
        record = Record(
            state="running",
            expires_at=self.now + RETENTION,
            claim=attempt,
            policy=policy,
            fingerprint=attempt.fingerprint,
            task_id=attempt.task_id,
            claimed_at=self.now,
            lease_expires_at=self.now + lease,
            effect_begun_at=self.now if begins else None,
        )
        if seen is not None:
            record.attempt, record.generation = seen.attempt + 1, seen.generation
            if not self.is_forgotten(seen):
                record.deaths = self.deaths(seen) or None
                attempt.repeats = seen.effect_begun_at is not None
            if attempt.repeats:
                record.effect_begun_at = seen.effect_begun_at
                record.repeat_until = seen.repeat_until
                if not begins:  # it is judged by the policy of the effect that has begun
                    record.policy = seen.policy
        self.records[key] = record
        attempt.number, attempt.generation, attempt.begun = (
            record.attempt,
            record.generation,
            begins,
        )
        return seen

    def _begin(self, attempt: Attempt) -> str:
        """A transaction with a body."""
        seen = self.records.get(attempt.key)
        own = attempt.noted and self.holds(attempt)
        if seen is not None and seen.state == "running" and not own:
            return "started before"
        self._renew_epoch(attempt, seen)
        attempt.seen = seen and replace(seen)
        attempt.number = seen.attempt + (not own) if seen else 1
        attempt.generation = seen.generation if seen else 1
        attempt.acted = False
        attempt.rows.clear()
        attempt.pending.clear()
        self.locks[attempt.key] = attempt
        return "body"

    def _renew_epoch(self, attempt: Attempt, seen: Record | None) -> None:
        if seen is not None and self.is_forgotten(seen):
            self.epochs[attempt.key] += 1
        attempt.epoch = self.epochs[attempt.key]
