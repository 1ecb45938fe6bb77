"""The books of the model: records, events and messages, and what operators, the provider and the
sweeper make of them. Written from ``docs/explanation/algorithm.md``, and without a line of the app.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from tests.model.record import COLUMNS, NOBODY, RETENTION, TOLD, VERDICTS, Attempt, Record


class Books:
    """All that is written, and what is true of it."""

    def __init__(self, keys: str) -> None:
        self.now = 0.0
        self.records: dict[str, Record] = {}
        self.events: dict[str, list[str]] = {key: [] for key in keys}
        #: By key and task id: the reason.
        self.parked: dict[tuple[str, str], str] = {}
        #: Messages that the broker will deliver, and how often a parked one was published.
        self.queue: set[str] = set()
        self.published: Counter[str] = Counter()
        self.locks: dict[str, Attempt] = {}
        #: Committed rows by key, epoch and kind.
        self.rows: Counter[tuple[str, int, str]] = Counter()
        #: How often a key was made as good as new: forgotten, purged or allowed again.
        self.epochs: dict[str, int] = dict.fromkeys(keys, 0)
        self.policies: defaultdict[tuple[str, int], set[str]] = defaultdict(set)

    # -- what is true of a record ------------------------------------------------------------

    def is_forgotten(self, record: Record) -> bool:
        is_settled = record.state in ("succeeded", "failed") and record.exhausted_at is None
        return is_settled and record.expires_at <= self.now

    def is_live(self, record: Record) -> bool:
        return record.lease_expires_at is not None and record.lease_expires_at > self.now

    def is_doubtful(self, record: Record) -> bool:
        """Without a word since an effect that nobody may repeat."""
        ended = record.state == "failed" or (record.state == "running" and not self.is_live(record))
        window = record.repeat_until
        repeatable = record.policy == "retry" and (window is None or window > self.now)
        begun = record.effect_begun_at is not None
        return ended and begun and not repeatable and record.exhausted_at is None

    def is_silent(self, key: str) -> bool:
        """Running, though neither a lease nor a transaction says so."""
        record = self.records.get(key)
        running = record is not None and record.state == "running" and not self.is_live(record)
        return running and key not in self.locks

    def holds(self, attempt: Attempt, state: str = "running") -> bool:
        record = self.records.get(attempt.key)
        return record is not None and record.claim is attempt and record.state == state

    @staticmethod
    def deaths(record: Record) -> int:
        return (record.deaths or 0) + (record.state == "running")

    # -- doubts ------------------------------------------------------------------------------

    def _find_doubt(self, attempt: Attempt, answer: str) -> str | None:
        record = self.records[attempt.key]
        if record.state != "in_doubt":
            self._put_in_doubt(attempt.key)
            self.events[attempt.key].append("in_doubt")
        if record.policy == attempt.policy.name == "ask":
            if self.is_live(record):
                return "AlreadyRunning"
            if answer in VERDICTS:
                self.resolve(attempt.key, answer, TOLD)
                return None
        self.parked.setdefault((attempt.key, attempt.task_id), "in_doubt")
        return "InDoubt"

    def _put_in_doubt(self, key: str) -> None:
        record = self.records[key]
        record.deaths = self.deaths(record)
        record.state, record.settled_at = "in_doubt", None

    def _exhaust(self, key: str) -> str:
        record = self.records[key]
        record.deaths = self.deaths(record)
        record.exhausted_at = self.now
        self._end(record, "failed", RETENTION)
        self.events[key].append("exhausted")
        return "Exhausted"

    def _end(self, record: Record, state: str, retention: float) -> None:
        record.state, record.lease_expires_at = state, None
        record.settled_at, record.expires_at = self.now, self.now + retention

    def _end_doubt(self, record: Record, answer: str, result: str | None) -> None:
        # Of the claim. One that had settled as failed before has been kept for longer already.
        retention = record.expires_at - record.claimed_at
        self._end(record, "succeeded" if answer == "happened" else "failed", retention)
        if answer == "happened":
            record.result = result
        else:
            record.effect_begun_at = None

    def resolve(self, key: str, answer: str, result: str | None, *, up: bool = True) -> str:
        record = self.records.get(key)
        silent = record and self.is_silent(key) and record.effect_begun_at is not None
        unseen = record and self.is_doubtful(record) and key not in self.locks
        if silent or unseen:
            self._put_in_doubt(key)
        if record is None or record.state != "in_doubt":
            return "NotInDoubt"
        self._end_doubt(record, answer, result)
        if answer == "happened":
            record.claim = NOBODY
        self.events[key].append("resolved")
        self._publish(key, up=up)
        return "resolved"

    def allow_again(self, key: str, *, up: bool = True) -> str:
        record = self.records.get(key)
        if record is None or record.state not in ("succeeded", "failed"):
            return "NotSettled"
        self.records[key] = Record(
            state="failed",
            attempt=record.attempt,
            generation=record.generation + 1,
            claim=record.claim,
            task_id=record.task_id,
            claimed_at=record.claimed_at,
            settled_at=self.now,
            expires_at=self.now + record.expires_at - record.settled_at,
        )
        self.epochs[key] += 1
        self.events[key].append("allowed_again")
        self._publish(key, up=up)
        return "allowed"

    def _publish(self, key: str, *, up: bool = True) -> None:
        for waiting in [each for each in self.parked if each[0] == key and up]:
            del self.parked[waiting]
            self.queue.add(waiting[1])
            self.published[waiting[1]] += 1

    # -- what is done now and then -----------------------------------------------------------

    def sweep(self, answers: Mapping[str, str]) -> None:
        for key, record in self.records.items():
            if self.is_doubtful(record) and key not in self.locks:
                self._put_in_doubt(key)
                self.events[key].append("in_doubt")
        for key in {key for key, _ in self.parked}:
            record = self.records.get(key)
            waits = record is not None and (
                record.state == "in_doubt" or record.exhausted_at is not None
            )
            held = key in self.locks or (record is not None and self.is_live(record))
            if not waits and not held:
                self._publish(key)
        for key, record in self.records.items():
            is_asked = record.policy == "ask" and not self.is_live(record)
            if record.state == "in_doubt" and is_asked and answers[key] in VERDICTS:
                self.resolve(key, answers[key], TOLD)

    def purge(self) -> None:
        waited_for = {key for key, _ in self.parked}
        for key, record in list(self.records.items()):
            if self.is_forgotten(record) and key not in waited_for:
                del self.records[key]
                self.epochs[key] += 1

    def give_up(self, key: str, task_id: str) -> None:
        """A message was deferred for too long."""
        self.events[key].append("gave_up")
        self.parked.setdefault((key, task_id), "gave_up")
        self.queue.discard(task_id)

    # -- what a test compares ----------------------------------------------------------------

    def shown(self, key: str) -> dict[str, object] | None:
        """The columns: times as hours from now, and a claim by the name of its attempt."""
        record = self.records.get(key)
        if record is None:
            return None
        columns = {name: getattr(record, name) for name in COLUMNS}
        columns["claim"] = record.claim and record.claim.name
        times = {name: columns[name] for name in COLUMNS if name.endswith(("_at", "_until"))}
        return columns | {
            name: None if time is None else time - self.now for name, time in times.items()
        }
