"""A bad input: what is given, and what it says."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass

from django.core.management import call_command

from idempotency import Leased, OnDoubt, execute, idempotent
from tests.execution.bodies import effect

SCOPE = "billing.charge"
HOLD = Leased(on_doubt=OnDoubt.HOLD)


@dataclass(frozen=True, kw_only=True)
class Refused:
    """One row of the page, and one test.

    Attributes:
        given: The situation, in words.
        act: Brings it about.
        error: What is raised; None when it is said in the log.
        says: The whole message; "…" stands for what differs from run to run.
        do: What to do, where the message does not say it.
        leaves: The states of the records afterwards.
        effects: How many effects stand afterwards, those of the preparation included.
    """

    given: str
    act: Callable[[], object]
    error: type[BaseException] | None
    says: str
    do: str = ""
    leaves: tuple[str, ...] = ()
    effects: int = 0

    def is_said_by(self, message: str) -> bool:
        pattern = ".+".join(map(re.escape, self.says.split("…")))
        return re.fullmatch(pattern, message, re.DOTALL) is not None


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What is no error: calls that one may take for the same, or for different ones.

    Attributes:
        given: What the calls have, in words.
        calls: Each is made twice.
        effects: How many effects they are.
        means: Which they are, in words.
    """

    given: str
    calls: tuple[Callable[[], object], ...]
    effects: int
    means: str


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Inputs that are refused at one time. The text says what that means for all of them."""

    title: str
    text: str
    cases: tuple[Refused, ...]


def charge(order_id, amount=1, **more):
    """What every case would run."""
    effect()


def declared(function=charge, *, key="order_id", scope=SCOPE, **options):
    """The function, decorated."""
    return idempotent(key=key, scope=scope, **options)(function)


def called(*args, function=charge, **options):
    """An act: call the function, decorated with these options."""
    return lambda: declared(function, **options)(*args)


def executed(function=effect, *, key=7, scope=SCOPE, **options):
    """An act: execute it."""
    return lambda: execute(function, key=key, scope=scope, **options)


def manage(command, *arguments):
    """An act: what an operator types."""
    return lambda: call_command(f"idempotency_{command}", *arguments, stdout=io.StringIO())


def within(outer, act):
    """An act: the error of one inside the body of another, which ends well."""

    def acted():
        caught = []

        def body():
            try:
                act()
            except Exception as error:
                caught.append(error)

        outer(body)
        raise caught[0]

    return acted
