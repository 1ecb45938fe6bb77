"""What records, events and parked messages must be, in plain Python: written from
``docs/explanation/algorithm.md``, and without a line of the app.

Times are hours on a clock that stands still between two steps.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace

#: In hours; time passes in whole ones, so that nothing ever happens on the dot.
LEASE, GRACE, WINDOW, RETENTION = 24.5, 6.5, 73.0, 240.5
MAX_REDELIVERIES = 2
TRIES = 3
VERDICTS = ("happened", "did not")
#: The result that the provider knows of, as JSON.
TOLD = '"told"'


@dataclass(frozen=True)
class Policy:
    name: str
    marks_effect: bool = False

    @property
    def is_leased(self) -> bool:
        return self.name != "transactional"


@dataclass(frozen=True)
class Ending:
    """How a body ends: it has ``returned`` a result (as JSON; None: one that cannot be stored),
    was ``refused`` (an error that proves that there was no effect), is ``unclear`` (any other
    error), or has ``died``."""

    how: str
    result: str | None = None

    @property
    def in_transaction(self) -> str:
        """The result is encoded before COMMIT."""
        lacks = self.how == "returned" and self.result is None
        return "ResultNotStorable" if lacks else self.how


@dataclass
class Record:
    """The columns. A claim is the attempt that made it."""

    state: str
    expires_at: float
    attempt: int = 1
    generation: int = 1
    claim: Attempt | None = None
    policy: str | None = None
    fingerprint: str | None = None
    task_id: str | None = None
    result: str | None = None
    error_class: str | None = None
    claimed_at: float | None = None
    effect_begun_at: float | None = None
    repeat_until: float | None = None
    lease_expires_at: float | None = None
    settled_at: float | None = None
    deaths: int | None = None
    exhausted_at: float | None = None

    def as_seen(self) -> tuple[object, ...]:
        """By what a commit knows it again. To allow again takes place at an instant of its own."""
        return self.state, self.attempt, self.generation, self.expires_at, self.lease_expires_at


@dataclass(eq=False)
class Attempt:
    """One delivery of a message, and what its process knows."""

    name: str
    key: str
    task_id: str
    policy: Policy
    fingerprint: str
    redelivered: bool
    number: int = 1
    generation: int = 1
    epoch: int = 0
    tries: int = 0
    begun: bool = False
    repeats: bool = False
    noted: bool = False
    acted: bool = False
    settled: str | None = None
    ended_own_doubt: bool = False
    seen: Record | None = None
    #: Of calls joined to its transaction.
    pending: dict[str, Record] = field(default_factory=dict)
    rows: Counter[tuple[str, int, str]] = field(default_factory=Counter)


class Expected:
    """All of it, and what each step makes of it. A step returns what the caller must get:
    ``body``, ``replay``, ``returned``, or the name of an exception."""

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
        return record.state in ("succeeded", "failed") and record.expires_at <= self.now

    def is_live(self, record: Record) -> bool:
        return record.lease_expires_at is not None and record.lease_expires_at > self.now

    def is_doubtful(self, record: Record) -> bool:
        """Without a word since an effect that nobody may repeat."""
        ended = record.state == "failed" or (record.state == "running" and not self.is_live(record))
        window = record.repeat_until
        repeatable = record.policy == "retry" and (window is None or window > self.now)
        begun = record.effect_begun_at is not None
        return ended and begun and not repeatable and record.exhausted_at is None

    def holds(self, attempt: Attempt, state: str = "running") -> bool:
        record = self.records.get(attempt.key)
        return record is not None and record.claim is attempt and record.state == state

    @staticmethod
    def deaths(record: Record) -> int:
        return (record.deaths or 0) + (record.state == "running")

    # -- a delivery, up to its body ----------------------------------------------------------

    def judge(self, attempt: Attempt, key: str | None = None) -> str:
        key = key or attempt.key
        record = attempt.pending.get(key) or self.records.get(key)
        known = record if record is not None and not self.is_forgotten(record) else None
        if known is not None and (said := self._judge_record(attempt, known)):
            return said
        if self.locks.get(key) not in (None, attempt):
            return "AlreadyRunning"
        if known is not None and self.deaths(known) >= MAX_REDELIVERIES:
            return "doubt" if known.effect_begun_at is not None else "deaths"
        return "body"

    def _judge_record(self, attempt: Attempt, record: Record) -> str | None:
        differs = record.fingerprint not in (None, attempt.fingerprint)
        if record.state == "succeeded":
            return "KeyReused" if differs else "replay"
        if record.state == "running" and self.is_live(record):
            return "AlreadyRunning"
        if record.exhausted_at is not None:
            return "Exhausted"
        if record.state == "in_doubt" or self.is_doubtful(record):
            return "doubt"
        # A provider has seen these arguments; what was rolled back, nobody.
        return "KeyReused" if differs and record.policy not in (None, "transactional") else None

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
        seen = self.records.get(attempt.key)
        begun = seen is not None and seen.effect_begun_at is not None
        repeats = begun and not self.is_forgotten(seen)
        # The effect of a claim before it is judged by the policy of that claim.
        policy = (seen.policy if repeats else None) or "transactional"
        seen = self._take(attempt, policy, GRACE, begins=False)
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
        silent = record is not None and record.state == "running" and not self.is_live(record)
        if record is not None and silent and record.effect_begun_at is not None:
            self._put_in_doubt(key)
        if record is None or record.state != "in_doubt":
            return "NotInDoubt"
        self._end_doubt(record, answer, result)
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

    # -- in the body -------------------------------------------------------------------------

    def mark(self, attempt: Attempt) -> str:
        record = self.records.get(attempt.key)
        if not (record and self.holds(attempt) and self.is_live(record)):
            return self._lease_lost(attempt)
        record.effect_begun_at, attempt.begun = self.now, True
        return "marked"

    def renew(self, attempt: Attempt) -> str:
        if not self.holds(attempt):
            return "lost"
        self.records[attempt.key].lease_expires_at = self.now + LEASE
        return "renewed"

    def settle(self, attempt: Attempt, result: str | None) -> str:
        if not self._succeed(attempt, result):
            return self._lease_lost(attempt)
        attempt.settled = result
        self.rows[attempt.key, attempt.epoch, "settled"] += 1
        return "settled"

    def join(self, attempt: Attempt, key: str, ending: Ending, policy: Policy) -> str:
        """A call inside of a transactional body: it commits with it, which a claim must not."""
        if policy.is_leased:
            return "InsideTransaction"
        if key == attempt.key:
            return "KeyNested"
        said = self.judge(attempt, key)
        if said in ("doubt", "deaths"):
            return "InDoubt" if said == "doubt" else "Exhausted"
        if said == "body":
            self.locks.setdefault(key, attempt)
            if ending.in_transaction != "returned":
                return ending.in_transaction
            seen = attempt.pending.get(key) or self.records.get(key)
            if seen is not None and self.is_forgotten(seen):
                self.epochs[key] += 1
            joined = self._succeeded(attempt, seen, ending.result, own=False)
            attempt.pending[key] = replace(joined, task_id=None)  # no message of its own
            attempt.rows[key, self.epochs[key], "row"] += 1
            self.policies[key, self.epochs[key]].add("transactional")
            return "returned"
        return said

    # -- the end of the body -----------------------------------------------------------------

    def end(self, attempt: Attempt, ending: Ending, *, doom: str | None = None) -> str:
        if ending.how == "died":
            self._unlock(attempt)
            self.queue.add(attempt.task_id)
            return "died"
        if attempt.policy.is_leased:
            return self._end_leased(attempt, ending)
        return self._end_transactional(attempt, ending, doom)

    def _end_leased(self, attempt: Attempt, ending: Ending) -> str:
        if ending.how == "LeaseLost":
            return ending.how
        if attempt.settled is not None:
            self._come_back(attempt)
        elif ending.how == "returned":
            if not self._succeed(attempt, ending.result):
                return self._lease_lost(attempt)
            self._come_back(attempt)
        elif not attempt.begun or ending.how == "refused":
            return self._fail(attempt, ending, repeats=attempt.repeats)
        elif attempt.policy.name == "retry":
            return self._fail(attempt, ending, repeats=True)
        else:
            return self._leave_in_doubt(attempt, ending)
        if ending.how != "returned":
            self.queue.add(attempt.task_id)
        return ending.how

    def _succeed(self, attempt: Attempt, result: str | None) -> bool:
        record = self.records.get(attempt.key)
        if record is not None and self.holds(attempt):
            self._end(record, "succeeded", RETENTION)
            record.result = result
        elif record is not None and self.holds(attempt, "in_doubt"):
            self._end_doubt(record, "happened", result)
            attempt.ended_own_doubt = True
        return self.holds(attempt, "succeeded")

    def _fail(self, attempt: Attempt, ending: Ending, *, repeats: bool) -> str:
        record = self.records.get(attempt.key)
        if record is not None and self.holds(attempt):
            self._end(record, "failed", RETENTION)
            record.error_class = ending.how
            if not repeats:
                record.effect_begun_at = None
        elif record is not None and self.holds(attempt, "in_doubt") and not repeats:
            self._end_doubt(record, "did not", None)
            attempt.ended_own_doubt = True
        else:
            return self._lease_lost(attempt)
        self._come_back(attempt)
        self.events[attempt.key].append("failed")
        self.queue.add(attempt.task_id)
        return ending.how

    def _leave_in_doubt(self, attempt: Attempt, ending: Ending) -> str:
        if not self.holds(attempt):
            return self._lease_lost(attempt)
        record = self.records[attempt.key]
        record.state, record.error_class = "in_doubt", ending.how
        self.events[attempt.key].append("in_doubt")
        self.parked.setdefault((attempt.key, attempt.task_id), "in_doubt")
        return ending.how

    def _come_back(self, attempt: Attempt) -> None:
        """It was taken for dead, and others have parked their messages meanwhile."""
        if attempt.ended_own_doubt:
            self.events[attempt.key].append("resolved")
            self._publish(attempt.key)

    def _lease_lost(self, attempt: Attempt) -> str:
        self.events[attempt.key].append("lease_lost")
        self.queue.add(attempt.task_id)
        return "LeaseLost"

    def _end_transactional(self, attempt: Attempt, ending: Ending, doom: str | None) -> str:
        self._unlock(attempt)
        error = doom or ending.in_transaction
        if error == "returned":
            return self._commit(attempt, ending)
        self.queue.add(attempt.task_id)
        record = self.records.get(attempt.key)
        if attempt.noted:
            if record is not None and self.holds(attempt):
                self._end(record, "failed", RETENTION)
                record.error_class = error
                if not attempt.repeats:
                    record.effect_begun_at = None
        elif doom is None:
            self._note_failure(attempt, record, error)
        if doom is None:
            self.events[attempt.key].append("failed")
        return error

    def _note_failure(self, attempt: Attempt, record: Record | None, error: str) -> None:
        if record is None:
            self.records[attempt.key] = record = Record(state="failed", attempt=0, expires_at=0)
        if record.state == "failed" and record.exhausted_at is None:
            self._end(record, "failed", RETENTION)
            record.attempt, record.error_class = record.attempt + 1, error
            if record.effect_begun_at is None:
                record.policy = None
            record.fingerprint, record.task_id = attempt.fingerprint, attempt.task_id

    def _commit(self, attempt: Attempt, ending: Ending) -> str:
        """Effect and record are committed together, unless the record has changed since the look:
        then all begins anew."""
        record, seen = self.records.get(attempt.key), attempt.seen
        if record is not None and (seen is None or record.as_seen() != seen.as_seen()):
            return self._insist(attempt, "unknown", self._begin)
        own = attempt.noted and self.holds(attempt)
        self.records[attempt.key] = self._succeeded(attempt, record, ending.result, own=own)
        self.records |= attempt.pending
        self.rows += attempt.rows
        return "returned"

    def _succeeded(
        self, attempt: Attempt, seen: Record | None, result: str | None, *, own: bool
    ) -> Record:
        """A transactional success remembers no claim."""
        return Record(
            state="succeeded",
            attempt=seen.attempt + (not own) if seen else 1,
            generation=seen.generation if seen else 1,
            fingerprint=attempt.fingerprint,
            task_id=attempt.task_id,
            result=result,
            claimed_at=self.now if seen else None,
            settled_at=self.now,
            expires_at=self.now + RETENTION,
            deaths=seen.deaths if seen else None,
        )

    def _unlock(self, attempt: Attempt) -> None:
        self.locks = {key: held for key, held in self.locks.items() if held is not attempt}

    # -- what is done now and then -----------------------------------------------------------

    def sweep(self, answers: Mapping[str, str]) -> None:
        for key, record in self.records.items():
            if self.is_doubtful(record):
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
            if self.is_forgotten(record) and record.exhausted_at is None and key not in waited_for:
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


COLUMNS = tuple(each.name for each in fields(Record))
