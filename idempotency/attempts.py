"""The attempt now running, and the delivery that brought it here."""

from __future__ import annotations

import inspect
import os
import socket
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from contextvars import ContextVar, copy_context
from datetime import timedelta
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from idempotency.exceptions import EffectNotMarked, NoAttempt
from idempotency.signals import Told

if TYPE_CHECKING:
    from collections.abc import Iterator


class Delivery:
    """How a call came here: by itself, or in a message of a broker.

    This class is the call by itself; ``contrib`` has one for each kind of broker client.
    """

    #: The message's identity for ``TASK_ID``, or None.
    message: tuple[str, int] | None = None
    task_id: str | None = None
    #: Whether this message may have been here before, or waits for its key. A hint to look first,
    #: no more.
    repeated: bool = False
    #: Whether the broker says that it delivered it before: the attempt then may have died.
    redelivered: bool = False
    #: The time after which the broker's client kills the body, or None.
    time_limit: timedelta | None = None

    def is_failure(self, error: Exception) -> bool:
        """Whether an error of the body says that the job failed."""
        return True

    def cause_of(self, error: BaseException) -> BaseException | None:
        """The error that tells whether there was an effect."""
        return error

    def park(self, using: str, key_hash: UUID, generation: int | None) -> bool:
        """Keep the message until the doubt is resolved. False: there is no doubt any more.

        ``generation`` None is any: the doubt is one of a nested call.
        """
        return True

    def answer(self, error: Exception, *, about: Told, defer_for: timedelta) -> BaseException:
        """What to raise instead of an error, when the message must not end with it.

        ``about`` is what there is to tell of the call.
        """
        return error

    def arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a run of the body gets of its arguments, and may change."""
        return args, kwargs

    def consumes_result(self) -> bool:
        """Whether somebody behind this call waits for its result."""
        return False

    def has_publisher(self) -> bool:
        """Whether another delivery is publishing what follows this call, or died while it did."""
        return False


#: Filled by ``contrib``: finds the delivery whose body is the given function, or None.
delivery_finders: list[Callable[[Callable[..., Any]], Delivery | None]] = []


def delivery_of(function: Callable[..., Any]) -> Delivery:
    """The delivery of which ``function`` is the body, else a plain call."""
    for find in delivery_finders:
        found = find(function)
        if found is not None:
            return found
    return Delivery()


def owner() -> str:
    """``host:pid`` of this process: for people, never for a decision."""
    return f"{socket.gethostname()}:{os.getpid()}"


def provider_key(key_hash: UUID, generation: int) -> UUID:
    """The key to send to a provider: the same for every attempt, new after *allow again*.

    Shaped like a version 5 UUID (RFC 9562, section 5.5), so that it fits every provider.
    """
    digest = sha256(b"provider-key\0" + key_hash.bytes + generation.to_bytes(8, "big"))
    return UUID(bytes=digest.digest()[:16], version=5)


class Held(Protocol):
    """What a leased run lets its body do."""

    def effect_begins(self) -> None: ...
    def settling(self, result: object) -> AbstractContextManager[None]: ...


class Attempt:
    """One run of the body under one claim.

    Attributes:
        number: Counted from 1, over all attempts of the record.
        key_hash: The record's key hash, 32 hex digits.
        connection: The connection whose transaction this attempt owns, or None when leased.
    """

    def __init__(
        self,
        *,
        number: int,
        key_hash: UUID,
        scope: str = "",
        hashes: tuple[UUID, ...] = (),
        generation: int = 1,
        connection: Any = None,
        held: Held | None = None,
    ) -> None:
        self.number = number
        self.key_hash = key_hash.hex
        self._generation = generation
        self.scope = scope
        self.hashes = frozenset(hashes)
        self.connection = connection
        self.outer: Attempt | None = None
        #: Set by a joined call that was refused: this transaction must not commit without it.
        self.doomed_by: Exception | None = None
        self._held = held

    @cached_property
    def provider_key(self) -> UUID:
        """The idempotency key to send to a provider."""
        return provider_key(UUID(self.key_hash), self._generation)

    def effect_begins(self) -> None:
        """Mark, durably, that the effect begins now. From here on a death is a doubt.

        Raises:
            LeaseLost: The claim is no longer this attempt's, or it would repeat an effect that its
                provider does not know any more. Do not cause the effect.
            EffectNotMarked: The policy is not ``Leased(..., marks_effect=True)``.
            InsideTransaction: The mark would be committed only later, with somebody's transaction.
        """
        self._leased("effect_begins").effect_begins()

    def settling(self, result: object = None) -> AbstractContextManager[None]:
        """A block whose rows commit together with the settlement of this attempt, or not at all.

        Args:
            result: What the call returns, now and in every replay. What the body itself returns
                afterwards is not used.

        Raises:
            LeaseLost: The claim is no longer this attempt's; the rows of the block roll back.
            EffectNotMarked: The policy is not ``Leased``.
            ResultNotStorable: ``result`` cannot be stored; the block did not run.
        """
        return self._leased("settling").settling(result)

    def _leased(self, method: str) -> Held:
        if self._held is None:
            raise EffectNotMarked(
                f"{method}() belongs to policy=Leased(...). This attempt is Transactional: its "
                "rows commit together with the record anyway.",
                key=self.key_hash,
            )
        return self._held

    def within(self, connection: Any) -> Iterator[Attempt]:
        """This attempt and those around it that share the transaction of ``connection``."""
        attempt: Attempt | None = self
        while attempt is not None:
            if attempt.connection is connection:
                yield attempt
            attempt = attempt.outer


_current: ContextVar[Attempt | None] = ContextVar("idempotency_attempt", default=None)


def current_attempt() -> Attempt:
    """The attempt whose body is running.

    Raises:
        NoAttempt: No body of ours is running here.
    """
    attempt = _current.get()
    if attempt is None:
        raise NoAttempt(
            "No attempt is running here: current_attempt() works inside the body of a function "
            "under @idempotent, or of one called by execute(), and in the same thread."
        )
    return attempt


def transaction_owner(connection: Any) -> Attempt | None:
    """The running attempt, if it owns the open transaction of ``connection``: what one further out
    rolls back may have been called by one between that has committed elsewhere."""
    attempt = _current.get()
    return attempt if attempt is not None and attempt.connection is connection else None


def transactional_attempt() -> Attempt | None:
    """The attempt whose body runs here, if it owns a transaction."""
    attempt = _current.get()
    return None if attempt is None or attempt.connection is None else attempt


def is_doomed() -> bool:
    """Whether the running attempt cannot commit any more: no use in waiting inside it."""
    attempt = _current.get()
    return attempt is not None and attempt.doomed_by is not None


def check_body(function: Callable[..., Any]) -> None:
    """Raise TypeError unless a call of the function runs it."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"async def {name} cannot run here: Celery does not await it, and Django's "
            "transactions are synchronous. Make it a plain function."
        )
    if inspect.isgeneratorfunction(function):
        raise TypeError(
            f"The generator {name} cannot run here: calling it runs nothing. Return a list."
        )


def run_as(attempt: Attempt, body: Callable[[], Any]) -> Any:
    """``body()``, with ``attempt`` as the current one.

    In a copy of the context, which ends with the body: a soft time limit that strikes anywhere
    cannot leave the attempt behind for the next task.
    """
    attempt.outer = _current.get()
    context = copy_context()
    context.run(_current.set, attempt)
    value = context.run(body)
    if isinstance(value, Coroutine):  # a wrapper around the body may hide that it is async
        value.close()
        raise TypeError(
            f"The body under key {attempt.key_hash} returned a coroutine, whose code has not run, "
            "and will not. Run it by async_to_sync() in the body."
        )
    return value
