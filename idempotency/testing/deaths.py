"""When a process dies in a test, and a death that is simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

from django.db import connections

from idempotency.testing.watching import moments


class CannotDeliver(Exception):
    """The test asks for something that cannot be done here. The message says what to change."""


class SimulatedCrash(BaseException):
    """The process is dead. A BaseException, since a dead process runs no ``except Exception``."""


@dataclass
class Death:
    """A moment at which a process dies, and whether a delivery came to it.

    Attributes:
        moment: Its name, or its number, counted from 1, among the moments of a delivery.
        struck: The moment at which it died; None while it lives.
        met: How many moments the delivery came to, this one included.
    """

    moment: str | int
    struck: str | None = None
    met: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.moment, str) and self.moment not in moments():
            known = ", ".join(sorted(moments()))
            raise ValueError(f"There is no moment {self.moment!r}. Known are: {known}.")

    def strikes_at(self, moment: str) -> bool:
        """Whether the process is dead at this moment: it dies now, or has died before."""
        self.met += 1
        if self.struck is None and self.moment in (moment, self.met):
            self.struck = moment
        return self.struck is not None


def every_death() -> Iterator[Death]:
    """A death at the first moment of a delivery, at the second, and so on to the last: before and
    after each durable step and the effect. The last one given is one that comes too late.

    Deliver a new key to each, by ``message.die(death)``.

    Raises:
        CannotDeliver: A death was given, and nothing was delivered to it.
    """
    for number in count(1):
        death = Death(number)
        yield death
        if not death.met:
            raise CannotDeliver(
                "Nothing was delivered to the death that every_death() gave: message.die(death)."
            )
        if death.struck is None:
            return


@contextmanager
def simulated(death: Death) -> Iterator[Callable[[str], None]]:
    """What to call at each moment of a delivery, to let ``death`` strike. From then on every
    durable step, and every statement but a rollback, raises SimulatedCrash."""

    def meet(moment: str) -> None:
        if death.strikes_at(moment):
            raise SimulatedCrash(moment)

    def refuse(execute: Callable[..., Any], sql: Any, *arguments: Any) -> Any:
        if death.struck is not None and not str(sql).startswith(("ROLLBACK", "RELEASE")):
            raise SimulatedCrash(f"{death.struck}; it sends no {sql}")
        return execute(sql, *arguments)

    with ExitStack() as refusing:
        for connection in connections.all(initialized_only=True):
            refusing.enter_context(connection.execute_wrapper(refuse))
        yield meet
