"""The promises a developer can declare, in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from smtplib import SMTPServerDisconnected


class OnDoubt(Enum):
    """What happens when an attempt stopped between its effect and its record."""

    HOLD = "hold"
    """Nothing runs until somebody resolves the doubt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transactional:
    """The effect is committed together with the record, or not at all.

    The price: effects must be rows in the same database, written on the same connection.
    """


#: An error that says nothing about whether the effect happened. A class that also covers one of
#: these cannot promise that it did not. (SMTPServerDisconnected comes after an accepted mail too,
#: and is an OSError.)
_SAYS_NOTHING = (SMTPServerDisconnected, TimeoutError, ConnectionResetError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """The effect is tried by one holder at a time and never repeated blindly.

    The price: a death in the middle leaves the record in doubt until somebody resolves it. Rows
    that the body commits by itself are not part of the promise.

    Args:
        on_doubt: What happens to a doubt. There is no default: somebody must have chosen.
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

    on_doubt: OnDoubt
    lease: timedelta | None = None
    max_run: timedelta | None = None
    marks_effect: bool = False
    no_effect_errors: tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.on_doubt, OnDoubt):
            raise TypeError(f"on_doubt must be OnDoubt.HOLD, got {self.on_doubt!r}.")
        for name, duration in (("lease", self.lease), ("max_run", self.max_run)):
            if duration is not None and (
                not isinstance(duration, timedelta) or duration <= timedelta(0)
            ):
                raise ValueError(f"{name} must be a positive timedelta, got {duration!r}.")
        for error in self.no_effect_errors:
            covered = [e.__name__ for e in _SAYS_NOTHING if issubclass(e, error)]
            if covered:
                raise TypeError(
                    f"no_effect_errors must not hold {error.__name__}: it covers {covered[0]}, "
                    "which may come after the effect. Name the errors that are a clear refusal."
                )


Policy = Transactional | Leased


def check_policy(policy: object) -> None:
    """Raise TypeError unless it is a policy."""
    if not isinstance(policy, Transactional | Leased):
        raise TypeError(f"policy= must be Transactional() or Leased(on_doubt=...), got {policy!r}.")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a doubt ends. Made by :meth:`happened` or :meth:`did_not_happen`."""

    effect_happened: bool
    result: object = None

    @classmethod
    def happened(cls, result: object = None) -> Verdict:
        """The effect happened; ``result`` is what every later delivery is answered with."""
        return cls(effect_happened=True, result=result)

    @classmethod
    def did_not_happen(cls) -> Verdict:
        """The effect did not happen: the next delivery may claim."""
        return cls(effect_happened=False)
