"""What a record is, and an attempt: the columns, and what a process knows, in plain Python.

Times are hours on a clock that stands still between two steps.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

#: In hours; time passes in whole ones, so that nothing ever happens on the dot.
LEASE, GRACE, WINDOW, RETENTION = 24.5, 6.5, 73.0, 240.5
MAX_REDELIVERIES = 2
TRIES = 3
VERDICTS = ("happened", "did not")
#: The result that the provider knows of, as JSON.
TOLD = '"told"'


@dataclass(frozen=True)
class Policy:
    name: str
    marks_effect: bool = False

    @property
    def is_leased(self) -> bool:
        return self.name != "transactional"


@dataclass(frozen=True)
class Ending:
    """How a body ends: it has ``returned`` a result (as JSON; None: one that cannot be stored),
    was ``refused`` (an error that proves that there was no effect), is ``unclear`` (any other
    error), or has ``died``."""

    how: str
    result: str | None = None

    @property
    def in_transaction(self) -> str:
        """The result is encoded before COMMIT."""
        lacks = self.how == "returned" and self.result is None
        return "ResultNotStorable" if lacks else self.how


@dataclass
class Record:
    """The columns. A claim is the attempt that made it."""

    state: str
    expires_at: float
    attempt: int = 1
    generation: int = 1
    claim: Attempt | None = None
    policy: str | None = None
    fingerprint: str | None = None
    task_id: str | None = None
    result: str | None = None
    error_class: str | None = None
    claimed_at: float | None = None
    effect_begun_at: float | None = None
    repeat_until: float | None = None
    lease_expires_at: float | None = None
    settled_at: float | None = None
    deaths: int | None = None
    exhausted_at: float | None = None

    def as_seen(self) -> tuple[object, ...]:
        """By what a commit knows it again. To allow again takes place at an instant of its own."""
        return self.state, self.attempt, self.generation, self.expires_at, self.lease_expires_at


@dataclass(eq=False)
class Attempt:
    """One delivery of a message, and what its process knows."""

    name: str
    key: str
    task_id: str
    policy: Policy
    fingerprint: str
    redelivered: bool
    number: int = 1
    generation: int = 1
    epoch: int = 0
    tries: int = 0
    begun: bool = False
    repeats: bool = False
    noted: bool = False
    acted: bool = False
    settled: str | None = None
    ended_own_doubt: bool = False
    seen: Record | None = None
    #: Of calls joined to its transaction.
    pending: dict[str, Record] = field(default_factory=dict)
    rows: Counter[tuple[str, int, str]] = field(default_factory=Counter)


#: Who says what happened to an attempt of somebody else.
NOBODY = Attempt("unknown", "", "", Policy(""), fingerprint="", redelivered=False)

COLUMNS = tuple(each.name for each in fields(Record))
