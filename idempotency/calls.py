"""A call, its outcome, and the part that both runners share: look, judge, answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError

from idempotency import events, results, signals
from idempotency.attempts import Delivery, provider_key, transaction_owner
from idempotency.conf import conf
from idempotency.exceptions import (
    AlreadyRunning,
    Exhausted,
    InDoubt,
    KeyReused,
    ResultNotStorable,
    ResultNotStored,
    TransactionLost,
)
from idempotency.keys import Key
from idempotency.models import Kind
from idempotency.policies import ASK, TRANSACTIONAL, Doubt, Leased, OnDoubt, Policy
from idempotency.resolution import ask
from idempotency.signals import Told
from idempotency.states import State
from idempotency.storage import Entry, Look, Seen, Storage, storage_for

logger = logging.getLogger("idempotency")

R = TypeVar("R")
T = TypeVar("T")

#: How often a transaction is begun anew when it was lost, or when somebody was faster.
TRIES = 3
#: Seconds after the first lost transaction; doubled after each further one.
PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """What a call came to.

    Attributes:
        result: What the body returned, in the form in which it is stored: a tuple is a list here,
            in the first run as in every replay.
        replayed: Whether it comes from an earlier run, so that the body did not run now.
    """

    result: R
    replayed: bool


@dataclass(frozen=True, kw_only=True)
class Call:
    """A body with its arguments, its key, and all that was declared about it."""

    function: Callable[[], Any]
    key: Key
    policy: Policy
    delivery: Delivery = field(default_factory=Delivery)
    using: str | None = None
    retention: timedelta | None = None
    store_result: bool | None = None
    #: The arguments by name, for who asks about a doubt.
    arguments: Mapping[str, Any] | None = None

    def entry(self) -> Entry:
        options = conf()
        return Entry(
            key=self.key,
            readable=self.key.readable if options.STORE_KEY else None,
            task_id=self.delivery.task_id,
            retention=options.RETENTION if self.retention is None else self.retention,
        )

    @property
    def lease(self) -> timedelta:
        """How long a silent attempt holds the key, at most."""
        return (isinstance(self.policy, Leased) and self.policy.lease) or conf().LEASE

    def encode(self, value: object) -> str | None:
        """The text that is stored of a result; None when results are not stored."""
        options = conf()
        stored = options.STORE_RESULT if self.store_result is None else self.store_result
        if not stored:
            return None
        name = f"the result of {self.key.scope}"
        try:
            return results.encode(value, limit=options.MAX_RESULT_BYTES, name=name)
        except ResultNotStorable as error:
            text = str(error)
            if not isinstance(self.policy, Leased):  # under a lease the effect stands
                text += " All that the body did is rolled back."
            raise ResultNotStorable(text, key=self.key.hashes[0].hex) from None


def decoded(text: str | None, otherwise: object = None) -> Any:
    """What every caller gets of a result: the stored form, if there is one."""
    return otherwise if text is None else results.decode(text)


class RecordChangedError(Exception):
    """Somebody was faster since the look: begin again from message 1. Never leaves a runner."""


class FoundError(Exception):
    """The record has to be stopped first. Never leaves a runner."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen


class DoubtFoundError(FoundError):
    """The record is in doubt, or has to be put there."""


class DeathsFoundError(FoundError):
    """Too many attempts have died."""


class Run:
    """One call on its way to its outcome."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.entry = call.entry()
        self.delivery = call.delivery
        self.storage: Storage = storage_for(call.using or conf().DATABASE)
        #: What this call is about to put in doubt.
        self.doubted: Seen | None = None
        #: How long the body ran.
        self.duration = timedelta(0)

    @property
    def hex(self) -> str:
        return self.call.key.hashes[0].hex

    @property
    def named(self) -> str:
        """How messages call the key: its value may be a secret."""
        return f"key {self.hex} of {self.call.key.scope}"

    def is_transient(self, error: BaseException) -> bool:
        """Whether a transaction without a body was lost, so that it can be tried again."""
        return self.storage.is_transient(error, None)

    def persist(self, step: Callable[[], T], is_transient: Callable[[BaseException], bool]) -> T:
        """``step``, begun anew when its transaction was lost or somebody was faster.

        Raises:
            InDoubt: The record is in doubt, and the message is safe.
            Exhausted: Too many attempts have died.
            TransactionLost: It was lost too often.
            ImproperlyConfigured: There is no table for records.
        """
        lost: BaseException | None = None
        for number in range(TRIES):
            try:
                try:
                    return step()
                except DoubtFoundError as found:
                    self._stop_in_doubt(found.seen)
                except DeathsFoundError as found:
                    self._stop_exhausted(found.seen)
            except RecordChangedError as changed:
                lost = changed.__cause__
            except (DatabaseError, InterfaceError) as error:
                if not is_transient(error):
                    if said := self.storage.unmigrated(error):
                        raise ImproperlyConfigured(said) from error
                    raise
                lost = error
                time.sleep(PAUSE * 2**number)
        raise TransactionLost(
            f"The transaction of {self.named} was lost or overtaken {TRIES} times in a row. "
            "Nothing of it is known to stand, and it is safe to deliver it again.",
            key=self.hex,
        ) from lost

    def judge(self, look: Look) -> Seen | None:
        """The record if it answers this call, None if the body may run; else raise."""
        known = look.seen if look.seen and not look.seen.is_forgotten else None
        if known is not None:
            if known.state is State.SUCCEEDED:
                self.compare(known)
                return known
            self._refuse_unsettled(known)
        if not look.locked:
            raise self.busy(seen=look.seen)
        if known is not None:
            self._refuse_claim(known)
        return None

    def _refuse_unsettled(self, seen: Seen) -> None:
        if seen.state is State.RUNNING and seen.lease_left > 0:
            left = f" Its lease runs out in {seen.lease_left:.0f} s, unless renewed."
            raise self.busy(left, seen=seen)
        if seen.exhausted:
            raise self.exhausted(seen)
        if seen.state is State.IN_DOUBT:
            raise DoubtFoundError(seen)

    def _refuse_claim(self, seen: Seen) -> None:
        """Of a record under whose key nobody runs in a transaction: else its lock is not ours."""
        if seen.is_doubtful:
            raise DoubtFoundError(seen)
        # What a transaction rolled back protects nothing; a provider has seen a leased one.
        if seen.policy not in (None, TRANSACTIONAL):
            self.compare(seen)
        if seen.deaths >= conf().MAX_REDELIVERIES:
            # Allowed again, it would repeat with a provider key that the provider does not know.
            raise (DoubtFoundError if seen.effect_begun else DeathsFoundError)(seen)

    def compare(self, seen: Seen) -> None:
        """Raise KeyReused if the record was made with other arguments."""
        fingerprint = self.call.key.fingerprint_for(seen.key_hash)
        if None not in (fingerprint, seen.fingerprint) and fingerprint != seen.fingerprint:
            raise KeyReused(
                f"The {self.named} was used with other arguments {self._use_of(seen)}, so the body "
                "did not run. Use another key for another effect, or leave out of fingerprint= "
                "what may differ.",
                key=self.hex,
            )

    def _use_of(self, seen: Seen) -> str:
        """When and by whom the key was used. What for is not known: only a hash is kept."""
        used = f"at {seen.begun_at.isoformat(' ', 'seconds')}"
        records = self.storage.records.filter(key_hash=seen.key_hash)
        task_id = records.values_list("task_id", flat=True).first()
        return f"{used} by message {task_id}" if task_id else used

    def busy(self, detail: str = "", *, seen: Seen | None = None) -> AlreadyRunning:
        return AlreadyRunning(
            f"The {self.named} is running in another attempt; the body did not run here.{detail} "
            "Try again later.",
            key=seen.key_hash.hex if seen else self.hex,
        )

    def exhausted(self, seen: Seen) -> Exhausted:
        return Exhausted(
            f"The {self.named} is exhausted: {seen.deaths} attempts died. The body did not run, "
            "and no delivery will run it. Find out what kills it, then allow it again: "
            f"idempotency_allow_again {seen.key_hash.hex}",
            key=seen.key_hash.hex,
        )

    def _stop_exhausted(self, seen: Seen) -> None:
        """Raise Exhausted; return if somebody was faster."""
        with self.storage.transaction_on(seen.key_hash) as look:
            # Since it was seen, its own attempt may have taken the lock that it was late for.
            stopped = look.locked and self.storage.exhaust(self.entry, seen)
        if stopped:
            self.announce(Kind.EXHAUSTED, key_hash=seen.key_hash, attempt=seen.attempt)
            raise self.exhausted(seen) from None

    def _stop_in_doubt(self, seen: Seen) -> None:
        """Raise InDoubt once the message is safe; return if there is no doubt any more."""
        if seen.state is not State.IN_DOUBT:
            self.doubted = seen
            with self.storage.transaction_on(seen.key_hash) as look:
                is_doubt = look.locked and self.storage.doubt(seen)
            if not is_doubt:
                self.doubted = None
                return  # renewed or settled meanwhile
        if self.doubted is not None:  # told also when the reply was lost, and this is the next try
            self._tell_doubt(self.doubted)
        if self._has_asked(seen):
            return
        if self.delivery.park(self.storage.using, seen.key_hash, seen.generation):
            raise InDoubt(
                f"The {self.named} is in doubt: attempt {seen.attempt} stopped between its effect "
                "and its record, and nothing runs until it is resolved. Look at the other side, "
                f"then say what happened: idempotency_resolve {seen.key_hash.hex}",
                key=seen.key_hash.hex,
            )

    def _tell_doubt(self, seen: Seen) -> None:
        self.doubted = None
        note = "The effect may have happened, and may not be repeated now."
        if seen.state is State.RUNNING:
            note = "The lease ran out after the effect began."
        self.announce(Kind.IN_DOUBT, key_hash=seen.key_hash, attempt=seen.attempt, note=note)

    def _has_asked(self, seen: Seen) -> bool:
        """Whether the provider was asked, and could tell. Judged by the policy of the claim."""
        on_doubt = self.call.policy.on_doubt if isinstance(self.call.policy, Leased) else None
        if seen.policy != ASK or on_doubt is None or isinstance(on_doubt, OnDoubt):
            return False
        if seen.lease_left > 0:
            early = " It is in doubt, and too early to ask: the provider may be at work."
            raise self.busy(early, seen=seen)
        doubt = Doubt(
            key_hash=seen.key_hash,
            scope=self.call.key.scope,
            attempt=seen.attempt,
            provider_key=provider_key(seen.key_hash, seen.generation),
            begun_at=seen.effect_begun_at or seen.begun_at,
            arguments=self.call.arguments,
        )
        return ask(on_doubt, doubt, claim_id=seen.claim_id, using=self.storage.using)

    def replay(self, seen: Seen) -> Outcome[Any]:
        """Answer a duplicate with the stored result."""
        if self.delivery.has_publisher():
            raise AlreadyRunning(
                f"The {self.named} succeeded, and another delivery of it may be publishing what "
                "follows, or have died while it did. Try again later.",
                key=seen.key_hash.hex,
            )
        if seen.result is None and self.delivery.consumes_result():
            raise ResultNotStored(
                f"The {self.named} succeeded without a stored result, and the next step waits for "
                "one. The body did not run again; start the next step yourself.",
                key=self.hex,
            )
        if transaction_owner(self.storage.connection) is None:
            self.announce(Kind.DUPLICATE, key_hash=seen.key_hash, attempt=seen.attempt)
        else:  # an event would be lost if that transaction was
            about = self.told(key_hash=seen.key_hash, attempt=seen.attempt)
            events.tell_with_commit(signals.duplicate_replayed, about)
        return Outcome(decoded(seen.result), replayed=True)

    def announce(self, kind: Kind, **about: Any) -> None:
        """Tell of what happened to the key, and append it to the log."""
        events.announce(kind, self.told(**about))

    def told(self, **about: Any) -> Told:
        return events.told(
            using=self.storage.using,
            scope=self.call.key.scope,
            task_id=self.delivery.task_id,
            redelivered=self.delivery.redelivered,
            **about,
        )
