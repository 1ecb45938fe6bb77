"""A proxy that meets each message to PostgreSQL twice: before it arrives, and before its reply."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.harness.proxy import Proxy

TABLE = re.compile(r"\b(?:idempotency|jobs)_(?!jobs)\w+")


class Wire(Proxy):
    """``wire.meet`` is called at each of both places, and tells whether the line lives on."""

    def __init__(self) -> None:
        super().__init__()
        self.meet: Callable[[str], bool] | None = None

    def spoken(self, statement: str | None) -> "Place | None":
        if statement is None or self.meet is None:
            return None
        meet, name = self.meet, described(statement)
        if not meet(f"before {name}"):
            return Place(after=False, strike=lambda: False)
        return Place(after=True, strike=lambda: meet(f"after {name}"))

    def cut_all(self) -> None:
        """The network fails: both ends of every connection see the other one gone."""
        for line in list(self._lines):
            line.hang_up()

    def forget(self) -> None:
        """Wait until the connections of clients that are gone have ended."""
        self.cut_all()
        for line in self._lines:
            line.end()
        self._lines.clear()


@dataclass(frozen=True)
class Place:
    """One side of a message, in the shape of the proxy's own stops."""

    after: bool
    strike: Callable[[], bool]


def described(statement: str) -> str:
    """A message by its verb and its table: ``INSERT idempotency_record and COMMIT``."""
    verb = statement.split(maxsplit=1)[0].strip(";")
    if "pg_try_advisory_xact_lock" in statement:
        return "the claim" if "INSERT" in statement else "the lock and the look"
    table = TABLE.search(statement)
    name = f"{verb} {table.group()}" if table else verb
    return f"{name} and COMMIT" if statement.endswith("; COMMIT") else name
