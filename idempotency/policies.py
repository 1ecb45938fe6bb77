"""The promises a developer can declare, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from smtplib import SMTPServerDisconnected
from typing import Any
from uuid import UUID


class OnDoubt(Enum):
    """What happens when an attempt stopped between its effect and its record."""

    HOLD = "hold"
    """Nothing runs until somebody resolves the doubt."""

    RETRY = "retry"
    """The effect is repeated, always with the same provider key, by which the provider knows it."""


#: Stored of a claim whose doubt is asked about.
ASK = "ask"
#: Stored of the start note of a transactional attempt.
TRANSACTIONAL = "transactional"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transactional:
    """The effect is committed together with the record, or not at all.

    The price: effects must be rows in the same database, written on the same connection.
    """


#: An error that says nothing about whether the effect happened. A class that also covers one of
#: these cannot promise that it did not. (SMTPServerDisconnected comes after an accepted mail too,
#: and is an OSError.)
_SAYS_NOTHING = (SMTPServerDisconnected, TimeoutError, ConnectionResetError)


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is known of an effect that may or may not have happened.

    Attributes:
        key_hash: The record's key hash.
        scope: What the key is unique within.
        attempt: The attempt that left the doubt.
        provider_key: The key that the provider was given.
        begun_at: When the effect began.
        arguments: The arguments of the call by name; None when nobody has them.
    """

    key_hash: UUID
    scope: str
    attempt: int
    provider_key: UUID
    begun_at: datetime
    arguments: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a doubt ends. Made by one of its three methods."""

    effect_happened: bool | None
    result: object = None

    @classmethod
    def happened(cls, result: object = None) -> Verdict:
        """The effect happened; ``result`` is what every later delivery is answered with."""
        return cls(effect_happened=True, result=result)

    @classmethod
    def did_not_happen(cls) -> Verdict:
        """The effect did not happen: the next delivery may claim."""
        return cls(effect_happened=False)

    @classmethod
    def unknown(cls) -> Verdict:
        """The provider cannot tell, or not yet: the doubt stays."""
        return cls(effect_happened=None)


Ask = Callable[[Doubt], Verdict]


class _Unset(Enum):
    UNSET = "not given"


UNSET = _Unset.UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """The effect is tried by one holder at a time and never repeated blindly.

    The price: with ``OnDoubt.HOLD``, a death, or an error that ``no_effect_errors`` does not name,
    in the middle leaves the record in doubt until somebody resolves it; with ``OnDoubt.RETRY``, the
    effect is only as good as the provider's own window; with a function that asks, as good as its
    answer. Rows that the body commits by itself are not part of the promise.

    Args:
        on_doubt: What happens to a doubt. There is no default: somebody must have chosen. A
            function is asked, with a :class:`.Doubt`, by the next delivery and by the sweeper, but
            not before a lease has passed since the last sign of life. An exception in it means
            ``Verdict.unknown()``.
        provider_window: For ``OnDoubt.RETRY``, and only there: for how long the provider knows a
            repeat by ``current_attempt().provider_key``, or None where a repeat is harmless.
            Counted from the first claim, less one lease; a repeat after it is a doubt.
        lease: How long an attempt may stay silent before it counts as dead. Default: the
            setting ``LEASE``.
        max_run: How long the lease is renewed at most, so that a hung body becomes visible.
            Default: the task's hard time limit, else an hour.
        marks_effect: The body calls ``current_attempt().effect_begins()`` right before its
            effect; what fails before that call is certainly without effect. Otherwise the effect
            begins with the claim.
        no_effect_errors: Exceptions which prove that there was no effect, such as an explicit
            refusal by the provider.

    Raises:
        TypeError: ``on_doubt`` is no ``OnDoubt``, or a class of ``no_effect_errors`` covers
            errors that prove nothing.
        ValueError: A duration is not positive.
    """

    on_doubt: OnDoubt | Ask
    provider_window: timedelta | _Unset | None = UNSET
    lease: timedelta | None = None
    max_run: timedelta | None = None
    marks_effect: bool = False
    no_effect_errors: tuple[type[Exception], ...] = ()

    @property
    def stored(self) -> str:
        """What a claim's record says of it: a lapsed claim is judged by this, not by the code."""
        return self.on_doubt.value if isinstance(self.on_doubt, OnDoubt) else ASK

    def __post_init__(self) -> None:
        if not isinstance(self.on_doubt, OnDoubt) and not callable(self.on_doubt):
            raise TypeError(
                "on_doubt must be OnDoubt.HOLD, OnDoubt.RETRY or a function that asks, got "
                f"{self.on_doubt!r}."
            )
        if (self.provider_window is UNSET) is (self.on_doubt is OnDoubt.RETRY):
            raise TypeError(
                "provider_window= belongs to OnDoubt.RETRY, and has no default there: say for how "
                "long the provider knows a repeat, or None where a repeat is harmless."
            )
        window = None if self.provider_window is UNSET else self.provider_window
        for name, duration in (
            ("lease", self.lease),
            ("max_run", self.max_run),
            ("provider_window", window),
        ):
            check_duration(name, duration)
        for error in self.no_effect_errors:
            covered = [e.__name__ for e in _SAYS_NOTHING if issubclass(e, error)]
            if covered:
                raise TypeError(
                    f"no_effect_errors must not hold {error.__name__}: it covers {covered[0]}, "
                    "which may come after the effect. Name the errors that are a clear refusal."
                )


Policy = Transactional | Leased


def check_duration(name: str, duration: timedelta | None) -> None:
    """Raise ValueError unless it is None or positive."""
    if duration is not None and (not isinstance(duration, timedelta) or duration <= timedelta(0)):
        raise ValueError(
            f"{name} must be a positive timedelta, got {duration!r} ({type(duration).__name__})."
        )


def check_policy(policy: object) -> None:
    """Raise TypeError unless it is a policy."""
    if not isinstance(policy, Transactional | Leased):
        raise TypeError(f"policy= must be Transactional() or Leased(on_doubt=...), got {policy!r}.")
