"""BEGIN - look and lock - body - insert the record - COMMIT."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.db import DatabaseError, InterfaceError, transaction

from idempotency import events, signals
from idempotency.attempts import Attempt, run_as, transaction_owner
from idempotency.calls import (
    Call,
    DeathsFoundError,
    DoubtFoundError,
    Outcome,
    RecordChangedError,
    Run,
    decoded,
)
from idempotency.exceptions import AlreadyRunning, BodyCommitted, Exhausted, InDoubt, KeyNested
from idempotency.models import Kind
from idempotency.outside import say_hooks
from idempotency.querysets import Claim
from idempotency.signals import Told
from idempotency.states import State
from idempotency.storage import Look, Seen

logger = logging.getLogger("idempotency")

#: Seconds to wait for a backend that may still be committing what we sent it.
LOST_COMMIT_WAIT = 1.0
#: From the commit of a start note until its attempt holds the key's lock again, at most.
GRACE = timedelta(seconds=5)


class StartedBeforeError(Exception):
    """An attempt has died under the key. Never leaves the runner."""


class TransactionalRun(Run):
    """Effect and record are committed together, or neither is."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.outer = transaction_owner(self.storage.connection)
        #: Of the start note, if this attempt has one.
        self.claim: Claim | None = None
        #: Whether a claim before it may have had an effect, which stays to be judged.
        self.repeats = False

    def outcome(self) -> Outcome[Any]:
        if self.outer is not None:
            return self._joined(self.outer)
        if self.delivery.repeated and not self.storage.in_test_case:
            answer = self._answered_before()
            if answer is not None:
                return self.replay(answer)
        if not self.delivery.redelivered or self.storage.in_test_case:
            with suppress(StartedBeforeError):
                return self.persist(self._once, self._is_body_transient)
        return self._noted()

    def _noted(self) -> Outcome[Any]:
        """The outcome of an attempt that leaves a trace if it dies."""
        try:
            answer = self.persist(self._note_start, self.is_transient)
            if answer is not None:
                return self.replay(answer)
            return self.persist(self._once, self._is_body_transient)
        except BaseException as error:
            self._end_start(error)
            raise

    def _note_start(self) -> Seen | None:
        """Commit that this attempt starts: a body that kills its worker each time cannot say so
        afterwards. A message that was never delivered before has killed nobody."""
        self.storage.refuse_foreign_transaction()
        try:
            with self.storage.transaction():
                look = self.storage.lock_and_look(self.call.key, read_committed=True)
                if self._is_own(look):
                    return None  # the reply to its COMMIT was lost
                answer = self.judge(look)
                if answer is not None:
                    return answer
                seen = look.seen
                self.claim = Claim(
                    id=self.claim.id if self.claim else uuid4(),
                    key_hash=seen.key_hash if seen else self.call.key.hashes[0],
                    retention=self.entry.retention,
                    lease=GRACE,
                )
                self.repeats = bool(seen and seen.effect_begun and not seen.is_forgotten)
                if not self.storage.note_start(self.entry, self.claim, seen):
                    raise RecordChangedError
        except DatabaseError as error:
            self._explain(error)
            raise
        if seen is not None and seen.state is State.RUNNING:
            self.announce(
                Kind.TAKEN_OVER,
                key_hash=seen.key_hash,
                attempt=seen.attempt + 1,
                note="The attempt before it has died.",
            )
        return None

    def _refuse_unnoted(self, *, joined: bool) -> None:
        """An attempt after one that died is noted too, whatever its message says of itself."""
        seen = self.look.seen
        if seen is not None and seen.state is State.RUNNING and not self.look.own and not joined:
            raise StartedBeforeError if self.claim is None else RecordChangedError

    def _is_own(self, look: Look) -> bool:
        """Whether the key is held by the start note of this attempt."""
        seen = look.seen
        if self.claim is None or seen is None or seen.claim_id != self.claim.id:
            return False
        return look.locked and seen.state is State.RUNNING

    def _end_start(self, error: BaseException) -> None:
        """This start has not died: it failed, was deferred, retried or shut down."""
        if self.claim is None:
            return
        try:
            self.storage.fail_briefly(self.claim, error, repeats=self.repeats)
        except (DatabaseError, InterfaceError):
            logger.warning("A start of %s may count as a death.", self.named, exc_info=True)

    def _is_body_transient(self, error: BaseException) -> bool:
        # After our COMMIT the error is an on_commit hook's.
        return not self.committed and self.storage.is_transient(error, self.raw)

    def _answered_before(self) -> Seen | None:
        """A message that may have been here before is looked up without a transaction."""
        try:
            self.storage.refuse_foreign_transaction()
            look = self._peek()
        except (DatabaseError, InterfaceError):
            return None  # the transaction that follows meets the same fault, and handles it
        if look.seen is None and not look.locked:
            raise self.busy()
        return self._succeeded(look.seen)

    def _peek(self) -> Look:
        with self.storage.one_message():
            return self.storage.peek(self.call.key)

    def _succeeded(self, seen: Seen | None) -> Seen | None:
        if seen is None or seen.state is not State.SUCCEEDED or seen.is_forgotten:
            return None
        self.compare(seen)
        return seen

    def _joined(self, outer: Attempt) -> Outcome[Any]:
        """Inside a transactional attempt: a savepoint, a record of its own, one commit."""
        running_here = outer.within(self.storage.connection)
        if any(attempt.hashes & set(self.call.key.hashes) for attempt in running_here):
            raise KeyNested(
                f"The {self.named} is running already, further up this call stack, and would wait "
                "for itself. Give the inner call a key or a scope of its own.",
                key=self.hex,
            )
        try:
            return self._try(joined=True)
        except DoubtFoundError as found:
            doom: Exception = InDoubt(
                f"The {self.named} is in doubt, so the outer call cannot finish either.",
                key=found.seen.key_hash.hex,
            )
        except DeathsFoundError as found:
            doom = self.exhausted(found.seen)
        except RecordChangedError:
            doom = self.busy()
        except (AlreadyRunning, InDoubt, Exhausted) as error:
            doom = error
        except (DatabaseError, InterfaceError) as error:
            if not self.storage.is_transient(error, self.storage.connection.connection):
                raise
            doom = error
        # If the body swallowed this, its transaction would commit without this call's effect.
        outer.doomed_by = doom
        raise doom

    def _once(self) -> Outcome[Any]:
        #: The driver's connection; this try is its transaction.
        self.raw: Any = None
        #: What the body returned.
        self.value: object = None
        self.in_body = self.sent = self.committed = False
        self.storage.refuse_foreign_transaction()
        try:
            outcome = self._try(joined=self.storage.in_test_case)
        except RecordChangedError:
            raise
        except Exception as error:
            if self.committed:
                self._tell_success()
                raise  # an on_commit hook failed: the job did not
            if self.sent:
                return self._after_commit_sent(error)
            if not self.in_body or self._is_body_transient(error):
                raise
            return self._after_failed_body(error)
        if not outcome.replayed:
            self._tell_success()
        return outcome

    def _tell_success(self) -> None:
        events.tell(signals.attempt_succeeded, self._success())

    def _success(self) -> Told:
        return self.told(key_hash=self._key_hash, attempt=self._number, duration=self.duration)

    def _try(self, *, joined: bool) -> Outcome[Any]:
        with self.storage.transaction(joined=joined):
            self.raw = self.storage.connection.connection
            self.look = self.storage.lock_and_look(self.call.key)
            if self._is_own(self.look):
                self.look = replace(self.look, own=True)
            answer = None if self.look.own else self.judge(self.look)
            self._refuse_unnoted(joined=joined)
            if answer is None:
                self.value, text = self._run_body(self.look)
                self._record(text, joined=joined)
        if answer is not None:
            return self.replay(answer)
        # Without an answer the body has run, and its text is bound.
        return Outcome(decoded(text, otherwise=self.value), replayed=False)  # pyright: ignore[reportPossiblyUnboundVariable]

    def _run_body(self, look: Look) -> tuple[object, str | None]:
        connection = self.storage.connection
        attempt = Attempt(
            number=self._number,
            key_hash=self._key_hash,
            scope=self.call.key.scope,
            hashes=self.call.key.hashes,
            generation=look.seen.generation if look.seen else 1,
            connection=connection,
        )
        hooks = len(connection.run_on_commit)
        self.in_body, started = True, time.monotonic()
        try:
            value = run_as(attempt, self.call.function)
        except Exception as error:
            if attempt.doomed_by not in (None, error):
                raise attempt.doomed_by from error
            raise
        finally:
            self.duration = timedelta(seconds=time.monotonic() - started)
        if attempt.doomed_by is not None:
            raise attempt.doomed_by
        if len(connection.run_on_commit) > hooks:
            say_hooks(self.call.key.scope, connection.run_on_commit[hooks:])
        text = self.call.encode(value)
        self.storage.refuse_uncommittable(self.raw)
        return value, text

    @property
    def _key_hash(self) -> Any:
        return self.look.seen.key_hash if self.look.seen else self.call.key.hashes[0]

    @property
    def _number(self) -> int:
        seen = self.look.seen
        return seen.attempt + (not self.look.own) if seen else 1

    def _record(self, text: str | None, *, joined: bool) -> None:
        if joined:
            try:
                self.storage.add_record(self.entry, self.look, result=text)
            except DatabaseError as error:
                self._explain(error)
                raise
            if self.outer is not None:  # what rolls back with it has not succeeded
                events.tell_with_commit(signals.attempt_succeeded, self._success())
            return
        self.hooks = list(self.storage.connection.run_on_commit)
        self.sent = True
        self.storage.commit_with_record(self.entry, self.look, result=text)
        self.committed = True

    def _explain(self, error: BaseException) -> None:
        """Raise what a refused record means. Only a violation of our own key is a duplicate."""
        if self.storage.is_record_changed(error):
            raise RecordChangedError from error
        if self.storage.is_body_committed(error):
            raise BodyCommitted(
                f"The body of {self.named} ended our transaction and began another, so a part of "
                "its effect may stand without a record. Do not commit in a transactional body.",
                key=self.hex,
            ) from error

    def _after_commit_sent(self, error: Exception) -> Outcome[Any]:
        """The last message came to an error: an answer of the server, or no answer at all."""
        self._explain(error)
        if not isinstance(error, DatabaseError) or self.storage.is_broken(self.raw):
            return self._after_lost_commit(error)
        if self._is_body_transient(error):
            raise error
        return self._after_failed_body(error)

    def _after_lost_commit(self, error: Exception) -> Outcome[Any]:
        """No reply to COMMIT is neither success nor failure, and *absent* is no proof: the old
        backend may still be committing. That the key's lock is free tells that it has ended."""
        deadline = time.monotonic() + LOST_COMMIT_WAIT
        while True:
            look = self._look_again(deadline)
            seen = self._succeeded(look.seen)
            if seen is not None and seen.begun_at == self.look.begun_at:
                self._tell_success()
                for _, hook, robust in self.hooks:  # outside of a transaction they run at once
                    transaction.on_commit(hook, using=self.storage.using, robust=robust)
                return Outcome(decoded(seen.result, otherwise=self.value), replayed=False)
            if seen is not None:
                return self.replay(seen)
            if look.locked:
                raise error  # rolled back
            if time.monotonic() > deadline:
                raise self.busy(" It may be this very call: its COMMIT was not answered.")
            time.sleep(0.02)

    def _look_again(self, deadline: float) -> Look:
        while True:
            try:
                with self.storage.transaction():
                    return self.storage.lock_and_look(self.call.key)
            except (DatabaseError, InterfaceError):
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def _after_failed_body(self, error: Exception) -> Outcome[Any]:
        """The body failed and all of it is rolled back: note it, unless it succeeded elsewhere."""
        refused = isinstance(error, AlreadyRunning | InDoubt | Exhausted)
        if refused or self.storage.is_lock_timeout(error) or not self.delivery.is_failure(error):
            raise error
        try:
            if self.claim is not None:
                noted = self.storage.fail_briefly(self.claim, error, repeats=self.repeats)
            else:
                noted = self.storage.note_failure(self.entry, self._key_hash, error)
            seen = None if noted else self._succeeded(self._peek().seen)
        except (DatabaseError, InterfaceError):
            logger.warning("The failure of %s could not be noted.", self.named, exc_info=True)
            seen = None
        if seen is not None:
            return self.replay(seen)
        self.announce(
            Kind.FAILED,
            key_hash=self._key_hash,
            attempt=self._number,
            duration=self.duration,
            note=type(error).__qualname__,
        )
        raise error
