"""What records, events and parked messages must be, in plain Python: bodies and how they end, on
top of deliveries (`runs`) and of the books (`books`).
"""

from __future__ import annotations

from dataclasses import replace

from tests.model.record import LEASE, RETENTION, Attempt, Ending, Policy, Record
from tests.model.runs import Runs


class Expected(Runs):
    """All of it, and what each step makes of it. A step returns what the caller must get:
    ``body``, ``replay``, ``returned``, or the name of an exception."""

    # -- in the body -------------------------------------------------------------------------

    def mark(self, attempt: Attempt) -> str:
        record = self.records.get(attempt.key)
        if not (record and self.holds(attempt) and self.is_live(record)):
            return self._lease_lost(attempt)
        record.effect_begun_at, attempt.begun = self.now, True
        record.policy = attempt.policy.name
        record.lease_expires_at = self.now + LEASE
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
            if repeats:
                record.policy = "retry"
            else:
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
        record.lease_expires_at = self.now + LEASE
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
            if self.is_forgotten(record):
                record.effect_begun_at = record.repeat_until = record.deaths = None
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
