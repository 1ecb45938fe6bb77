"""Claim - COMMIT - body - settle if the fencing token still matches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

from django.db import DatabaseError, InterfaceError
from django.dispatch import Signal

from idempotency import events, signals
from idempotency.attempts import Attempt, run_as
from idempotency.calls import Call, Outcome, RecordChangedError, Run, decoded
from idempotency.exceptions import (
    EffectNotMarked,
    IdempotencyError,
    LeaseLost,
    ResultNotStorable,
    TransactionLost,
)
from idempotency.heartbeat import Heartbeat
from idempotency.models import Kind
from idempotency.parking import publish_parked
from idempotency.policies import UNSET, Leased, OnDoubt
from idempotency.querysets import Claim
from idempotency.states import State
from idempotency.storage import Seen

logger = logging.getLogger("idempotency")

T = TypeVar("T")

#: Without a hard time limit of the task, a body counts as hung after this time.
MAX_RUN = timedelta(hours=1)


class LeasedRun(Run):
    """The effect is tried by one holder at a time, and never repeated blindly."""

    def __init__(self, call: Call, policy: Leased) -> None:
        super().__init__(call)
        self.policy = policy
        #: The same for all tries of the claim: one whose reply was lost is recognised by it.
        self.claim_id = uuid4()
        self.claim: Claim | None = None
        self.number = 1
        self.generation = 1
        self.effect_begun = not policy.marks_effect
        #: Whether an earlier attempt may have had the effect that this one repeats.
        self.repeats = False
        self.has_settled = False
        #: Whether this attempt was taken for dead, and has told since what became of it.
        self.ended_own_doubt = self.was_interrupted = False
        #: The text that a settling block has stored, and the value that it was given.
        self.settled: tuple[str | None, object] = (None, None)

    def outcome(self) -> Outcome[Any]:
        with ExitStack() as heartbeat:
            try:
                answer = self.persist(self._claim, self.is_transient)
                if answer is not None:
                    return self.replay(answer)
                heartbeat.enter_context(self._heartbeat(self._held))
                self._tell(signals.attempt_claimed)
            except BaseException as error:
                self._release(error)
                raise
            return self._run_body(self._held)

    # -- the claim ---------------------------------------------------------------------------

    def _claim(self) -> Seen | None:
        """Claim the key, unless its record answers this call."""
        self.storage.refuse_foreign_transaction()
        self.claim = self._claim_under(self.call.key.hashes[0])
        try:
            look = self.storage.claim(self.entry, self.claim, **self._declared)
            seen = look.seen
            if seen is not None and self._is_held(seen):
                # Its record is new, or the reply to its COMMIT was lost.
                self.claim = self._claim_under(seen.key_hash)
                self.number, self.generation = seen.attempt, seen.generation
                return None
            self.claim = None  # there is nothing to release
            return self.judge(look) or self._take_over()
        except DatabaseError as error:
            if self.storage.is_record_changed(error):
                raise RecordChangedError from error
            raise

    def _is_held(self, seen: Seen) -> bool:
        """Whether a record is this claim, of which nobody has said anything since."""
        is_running = seen.state is State.RUNNING and seen.lease_left > 0
        return is_running and seen.claim_id == self.claim_id

    def _take_over(self) -> Seen | None:
        """Claim a key whose record answers nothing, unless it does by now."""
        with self.storage.transaction(joined=self.storage.in_test_case):
            look = self.storage.lock_and_look(
                self.call.key, read_committed=not self.storage.in_test_case, flushed=True
            )
            answer, seen = self.judge(look), look.seen
            if answer is not None:
                return answer
            if seen is None:
                raise RecordChangedError  # purged meanwhile
            self.claim = self._claim_under(seen.key_hash)
            self.number, self.generation = seen.attempt + 1, seen.generation
            self.repeats = seen.effect_begun and not seen.is_forgotten
            if not self.storage.take_over(self.entry, self.claim, seen, **self._declared):
                raise RecordChangedError
        self.announce(
            Kind.TAKEN_OVER,
            key_hash=seen.key_hash,
            attempt=self.number,
            note=f"It was {seen.state.value}.",
        )
        return None

    def _claim_under(self, key_hash: UUID) -> Claim:
        return Claim(
            id=self.claim_id,
            key_hash=key_hash,
            retention=self.entry.retention,
            lease=self.call.lease,
        )

    @property
    def _declared(self) -> dict[str, Any]:
        """What a claim says of its effect."""
        window = self.policy.provider_window
        return {
            "policy": self.policy.stored,
            "begins": self.effect_begun,
            "window": None if window is UNSET else window,
        }

    @property
    def _held(self) -> Claim:
        assert self.claim is not None  # noqa: S101 the body runs after the claim
        return self.claim

    def _release(self, error: BaseException) -> None:
        """Something struck around the claim: if it was committed, nothing has begun under it."""
        if self.claim is None:
            return
        try:
            self.storage.fail_briefly(self.claim, error, repeats=self.repeats)
        except (DatabaseError, InterfaceError):
            logger.warning("A claim on %s may be left to its lease.", self.named, exc_info=True)

    def _heartbeat(self, claim: Claim) -> AbstractContextManager[None]:
        if self.storage.in_test_case:
            return nullcontext()  # a second connection would not see the claim
        max_run = self.policy.max_run or self.delivery.time_limit or MAX_RUN
        return Heartbeat(self.storage.using, claim, max_run=max_run.total_seconds())

    # -- the body, and what becomes of it ----------------------------------------------------

    def _run_body(self, claim: Claim) -> Outcome[Any]:
        attempt = Attempt(
            number=self.number,
            key_hash=claim.key_hash,
            generation=self.generation,
            held=self,
        )
        started = time.monotonic()
        try:
            try:
                with self.storage.survivable():
                    value = run_as(attempt, self.call.function)
            finally:
                self.duration = timedelta(seconds=time.monotonic() - started)
                self._end_leftovers()
        except BaseException as error:
            self._see_to(claim, error)
            raise
        try:
            outcome = self._after_return(claim, value)
        except IdempotencyError:
            raise
        except Exception:
            # A soft time limit struck. The body has returned, and that must be written down.
            self.was_interrupted = True
            outcome = self._after_return(claim, value)
        self._after_success(claim)
        return outcome

    def _end_leftovers(self) -> None:
        try:
            self.storage.end_leftovers()
        except (DatabaseError, InterfaceError):
            self.storage.connection.close()

    def _after_return(self, claim: Claim, value: object) -> Outcome[Any]:
        if self.has_settled:
            return Outcome(decoded(*self.settled), replayed=False)
        if not self.effect_begun:
            logger.error(
                "The body of %s returned without effect_begins(), though its policy says "
                "marks_effect=True: had it died, its effect would be repeated.",
                self.named,
            )
        text = self._encoded(value)
        if not self._settle(claim, text):
            raise self._lease_lost(claim)
        return Outcome(decoded(text, otherwise=value), replayed=False)

    def _encoded(self, value: object) -> str | None:
        """What is stored of a result: the effect has happened, and nothing may be repeated because
        it cannot be encoded."""
        try:
            return self.call.encode(value)
        except Exception as error:
            if not isinstance(error, ResultNotStorable) and not self.was_interrupted:
                raise  # perhaps a soft time limit
            logger.exception("The result of %s is not stored, and cannot be replayed.", self.named)
            return None

    def _settle(self, claim: Claim, text: str | None) -> bool:
        """Settle as succeeded: mostly in one message."""
        if not self.storage.in_test_case and self._persistently(
            lambda: self._succeed_in_one_message(claim, text)
        ):
            return True
        return self._insist(lambda: self._succeed(claim, text))

    def _succeed_in_one_message(self, claim: Claim, text: str | None) -> bool:
        with self.storage.one_message():
            return self.storage.succeed(claim, result=text)

    def _succeed(self, claim: Claim, text: str | None) -> bool:
        if self.storage.succeed(claim, result=text):
            return True
        if self.storage.has_ended(claim, State.SUCCEEDED):
            return True  # the reply was lost
        self.ended_own_doubt = self.storage.resolve_own_doubt(claim, happened=True, result=text)
        return self.ended_own_doubt

    def _fail(self, claim: Claim, error: BaseException, *, repeats: bool) -> bool:
        if self.storage.fail(claim, error, repeats=repeats) or self._was_sent(State.FAILED):
            return True
        # Without an effect of its own, an earlier attempt's may still be in doubt.
        self.ended_own_doubt = not repeats and self.storage.resolve_own_doubt(claim, happened=False)
        return self.ended_own_doubt

    def _leave_in_doubt(self, claim: Claim, error: BaseException) -> bool:
        return self.storage.leave_in_doubt(claim, error) or self._was_sent(State.IN_DOUBT)

    def _was_sent(self, state: State) -> bool:
        """Whether an earlier try of this write ended the claim, and its reply was lost."""
        is_resent = self.is_resent or self.was_interrupted
        return is_resent and self.storage.has_ended(self._held, state)

    def _after_success(self, claim: Claim) -> None:
        """Nothing here undoes it, a soft time limit included."""
        try:
            self._tell(signals.attempt_succeeded, duration=self.duration)
            self._publish_after_own_doubt(claim)
        except Exception:
            logger.exception("%s succeeded; the sweeper publishes what waits for it.", self.named)

    def _tell(self, signal: Signal, **about: Any) -> None:
        key_hash = self._held.key_hash
        events.tell(signal, self.told(key_hash=key_hash, attempt=self.number, **about))

    def _publish_after_own_doubt(self, claim: Claim) -> None:
        """The lease ran out, others took this attempt for dead and parked their messages."""
        if not self.ended_own_doubt:
            return
        self.announce(
            Kind.RESOLVED,
            key_hash=claim.key_hash,
            attempt=self.number,
            note="Its own attempt has come back.",
        )
        publish_parked(claim.key_hash, using=self.storage.using)

    def _see_to(self, claim: Claim, error: BaseException) -> None:
        try:
            self._after_raise(claim, error)
        except IdempotencyError:
            raise
        except Exception:
            # A soft time limit struck: what was not written yet, a parked message too, must be.
            self.was_interrupted = True
            self._after_raise(claim, error)

    def _after_raise(self, claim: Claim, error: BaseException) -> None:
        """Settle what an error leaves behind. The error itself passes on unchanged, unless the
        lease was lost: then it says nothing about the job, which is somebody else's.
        """
        if self.has_settled:
            self._after_success(claim)
            return
        if isinstance(error, LeaseLost) and error.key == self.hex:
            return
        cause = self.delivery.cause_of(error)
        try:
            if not self.effect_begun or isinstance(cause, self.policy.no_effect_errors):
                self._settle_as_failed(claim, error, repeats=self.repeats)
            elif self.policy.on_doubt is OnDoubt.RETRY:
                self._settle_as_failed(claim, error, repeats=True)
            else:
                self._settle_in_doubt(claim, error)
        except TransactionLost as lost:
            logger.exception("%s could not be settled; its lease will run out.", self.named)
            if isinstance(error, Exception):
                raise lost from error

    def _settle_as_failed(self, claim: Claim, error: BaseException, *, repeats: bool) -> None:
        if not self._insist(lambda: self._fail(claim, error, repeats=repeats)):
            self._give_up(claim, error)
            return
        self._publish_after_own_doubt(claim)
        if isinstance(error, Exception) and self.delivery.is_failure(error):
            self._announce_end(Kind.FAILED, claim, error)

    def _settle_in_doubt(self, claim: Claim, error: BaseException) -> None:
        if not self._insist(lambda: self._leave_in_doubt(claim, error)):
            self._give_up(claim, error)
            return
        self._announce_end(Kind.IN_DOUBT, claim, error)
        using, key_hash, generation = self.storage.using, claim.key_hash, self.generation
        if not self._persistently(lambda: self.delivery.park(using, key_hash, generation)):
            # Resolved already, and so published: this message would not have been among them.
            raise self.busy(" Its doubt is resolved already.") from error

    def _give_up(self, claim: Claim, error: BaseException) -> None:
        lost = self._lease_lost(claim)
        if isinstance(error, Exception):  # a shutdown goes on all the same
            raise lost from error

    def _announce_end(self, kind: Kind, claim: Claim, error: BaseException) -> None:
        self.announce(
            kind,
            key_hash=claim.key_hash,
            attempt=self.number,
            duration=self.duration,
            note=type(error).__qualname__,
        )

    def _insist(self, write: Callable[[], bool]) -> bool:
        """A guarded write that may be sent twice; see `_persistently`."""

        def in_transaction() -> bool:
            with self.storage.transaction(joined=self.storage.in_test_case):
                return write()

        return self._persistently(in_transaction)

    def _persistently(self, step: Callable[[], T]) -> T:
        """A step that may be taken twice, tried for as long as the lease would last.

        Raises:
            TransactionLost: The database could not be reached for so long.
        """
        deadline = time.monotonic() + self._held.lease.total_seconds()
        pause = 0.05
        self.is_resent = False
        while True:
            try:
                return step()
            except (DatabaseError, InterfaceError) as error:
                if self.storage.in_test_case:
                    raise
                self.storage.connection.close()
                if time.monotonic() + pause > deadline:
                    raise TransactionLost(
                        f"The database could not be reached to settle {self.named}: its lease will "
                        "run out, and the record says then what is known.",
                        key=self.hex,
                    ) from error
            time.sleep(pause)
            pause = min(pause * 2, 1.0)
            self.is_resent = True

    def _lease_lost(self, claim: Claim, otherwise: str = "") -> LeaseLost:
        self._tell_lease_lost(claim)
        return self._stale(claim, otherwise)

    def _tell_lease_lost(self, claim: Claim) -> None:
        self.announce(Kind.LEASE_LOST, key_hash=claim.key_hash, attempt=self.number)

    def _stale(self, claim: Claim, otherwise: str = "") -> LeaseLost:
        return LeaseLost(
            f"The lease of attempt {self.number} on {self.named} ran out, and the claim is no "
            f"longer its own: it settles nothing.{otherwise} See what holds now: "
            f"idempotency_show {claim.key_hash.hex}",
            key=self.hex,
        )

    # -- what the body may do ----------------------------------------------------------------

    def effect_begins(self) -> None:
        """See :meth:`idempotency.attempts.Attempt.effect_begins`."""
        if not self.policy.marks_effect:
            raise EffectNotMarked(
                "effect_begins() needs policy=Leased(..., marks_effect=True). Without it the "
                "effect counts as begun with the claim.",
                key=self.hex,
            )
        self._persistently(self.storage.refuse_foreign_transaction)
        claim, policy = self._held, self.policy.stored
        if not self._insist(lambda: self.storage.begin_effect(claim, policy=policy)):
            forgotten = " Or its provider knows no repeat of the effect any more."
            raise self._lease_lost(claim, forgotten if self.repeats else "")
        self.effect_begun = True
        self.storage.outlasts_the_body()

    @contextmanager
    def settling(self, result: object) -> Iterator[None]:
        """See :meth:`idempotency.attempts.Attempt.settling`."""
        text, sent = self.call.encode(result), False
        claim = self._held
        if self.has_settled:
            raise self._stale(claim)
        lost: LeaseLost | None = None
        try:
            with self._persistently(self._begin_settling):
                yield
                if not self._succeed(claim, text):
                    raise (lost := self._stale(claim))
                sent = True
        except Exception as error:
            if error is lost:
                self._tell_lease_lost(claim)
            # After the settlement it is the reply to COMMIT that was lost, or a hook that failed.
            if not sent or not self._insist(lambda: self.storage.has_ended(claim, State.SUCCEEDED)):
                raise
            self.has_settled, self.settled = True, (text, result)
            if not self.is_transient(error):
                raise
        else:
            self.has_settled, self.settled = True, (text, result)
            self.storage.outlasts_the_body()

    def _begin_settling(self) -> ExitStack:
        """The open transaction of a settling block. The effect may have taken long, and nothing of
        the block has run yet: a connection that was lost meanwhile is no reason for a doubt."""
        self.storage.refuse_foreign_transaction()
        with ExitStack() as opened:
            opened.enter_context(self.storage.transaction(joined=self.storage.in_test_case))
            self.storage.hold(self._held)
            return opened.pop_all()
