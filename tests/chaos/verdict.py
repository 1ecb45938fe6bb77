"""What became of every intended effect: told by rows and journals, explained by records."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db import connection

from idempotency.models import IdempotencyRecord, ParkedMessage
from idempotency.states import State
from tests.chaos.deck import PROMISES
from tests.chaos.journal import Journal
from tests.chaos.outside import Outside
from tests.chaos.settlement import keys_by_hash
from tests.chaos.units import Unit
from tests.jobs.models import Effect

LOCKS = """
SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
 WHERE locktype = 'advisory' AND datname = current_database()
"""


@dataclass(frozen=True)
class Step:
    """One intended effect, and what was found of it.

    Attributes:
        effects: How often it happened, told by a row, a mail server or a receiver.
        rows: The rows that were written with its settlement, each as the body wrote it.
    """

    unit: Unit
    number: int
    promise: str
    key: str
    effects: int
    rows: list[str]

    @property
    def is_doubled(self) -> bool:
        """A row that a stale worker has left counts too: it settles nothing."""
        return self.effects > 1 or len(self.rows) > 1


def steps(outside: Outside, intended: list[Unit]) -> Iterator[Step]:
    """Every intended effect, as it stands now."""
    rows: dict[str, list[str]] = {}
    for key, note in Effect.objects.values_list("key", "note"):
        rows.setdefault(key, []).append(note)
    effects = outside.effects()
    effects["transactional"] = Counter({key: len(notes) for key, notes in rows.items()})
    for unit in intended:
        for number, (promise, key) in enumerate(zip(unit.promises, unit.keys, strict=True)):
            found = effects[promise][key]
            yield Step(unit, number, promise, key, found, rows.get(key, []))


@dataclass
class Calm:
    """Between the storm and the settlement: what is missing, and whether somebody knows why.

    Attributes:
        doubts: Records in doubt, by promise.
        unparked: Keys in doubt whose message is not kept.
        lost_by_broker: Units of which the broker took a message that no worker has ever got.
        lost: Keys without an effect for which there is neither.
        unknown: Records of keys that nobody has sent.
    """

    doubts: Counter[str] = field(default_factory=Counter)
    unparked: list[str] = field(default_factory=list)
    lost_by_broker: list[Unit] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def explain(outside: Outside, intended: list[Unit], journal: Journal) -> Calm:
    """Judge what is missing before anybody settles a doubt."""
    calm = Calm()
    known = keys_by_hash(intended)
    parked = set(ParkedMessage.objects.values_list("key_hash", flat=True))
    in_doubt = IdempotencyRecord.objects.filter(state=State.IN_DOUBT)
    records = IdempotencyRecord.objects.values_list("key_hash", flat=True)
    calm.unknown = [found.hex for found in records if found not in known]
    waiting: set[str] = set()
    for found in in_doubt.values_list("key_hash", flat=True):
        if found not in known:
            continue
        promise, key = known[found]
        calm.doubts[promise] += 1
        if found in parked:
            waiting.add(key.rpartition(".")[0])
        else:
            calm.unparked.append(key)
    never_came = journal.units_lost_by_broker()
    for step in steps(outside, intended):
        if step.effects or step.unit.name in waiting:
            continue
        if step.unit.name not in never_came:
            calm.lost.append(step.key)
        elif step.unit not in calm.lost_by_broker:
            calm.lost_by_broker.append(step.unit)
    return calm


@dataclass
class Findings:
    """The end: what is wrong, by what is wrong. Nothing is what is promised."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    by_promise: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.wrong, *self.cut]

    @property
    def is_kept(self) -> bool:
        return not (self.keys or self.left)


def judge(outside: Outside, intended: list[Unit], calm: Calm, journal: Journal) -> Findings:
    """Judge what is there when every doubt is settled."""
    findings = Findings(by_promise={promise: Counter() for promise in PROMISES})
    for step in steps(outside, intended):
        count = findings.by_promise[step.promise]
        count["intended"] += 1
        count["done"] += step.effects == 1 and not step.is_doubled
        count["lost"] += not step.effects
        count["doubled"] += step.is_doubled
        if not step.effects:
            findings.lost.append(step.key)
        if step.is_doubled:
            findings.doubled.append(step.key)
        if step.key in journal.reused or any(row != _expected(step) for row in step.rows):
            findings.wrong.append(step.key)
    for key in calm.lost:
        if key not in findings.lost:  # it came by itself, after nothing had moved for long
            findings.lost.append(key)
    findings.cut = _cut(intended, journal)
    findings.left = [*_left(), *(f"the message of {key} was not parked" for key in calm.unparked)]
    if calm.unknown:
        findings.left.append(f"{len(calm.unknown)} records of keys that nobody has sent")
    return findings


def _cut(intended: list[Unit], journal: Journal) -> list[str]:
    """The last keys of chains to which a copy of the chain has not come, for its message has lost
    what was behind it. One that the broker did not bring back is none."""
    wait = journal.roots_that_wait()
    return [
        unit.keys[-1]
        for unit in intended
        if unit.shape == "chain"
        and journal.roots[unit.keys[0]] - journal.succeeded_roots[unit.keys[-1]] - wait
    ]


def _expected(step: Step) -> str:
    return json.dumps(step.unit.previous(step.number))


def _left() -> Iterator[str]:
    """What must not be left when everything is settled."""
    for state in (State.RUNNING, State.IN_DOUBT):
        if number := IdempotencyRecord.objects.filter(state=state).count():
            yield f"{number} records {state.label}"
    if number := IdempotencyRecord.objects.exhausted().count():
        yield f"{number} records exhausted"
    if number := ParkedMessage.objects.count():
        yield f"{number} messages parked"
    if number := _locks_that_stay():
        yield f"{number} advisory locks held"


def _locks_that_stay(seconds: float = 10) -> int:
    """How many are still held after a while: the sweeper may be looking at a record just now."""
    deadline = time.monotonic() + seconds
    while (number := _locks()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return number


def _locks() -> int:
    with connection.cursor() as cursor:
        cursor.execute(LOCKS)
        [(number,)] = cursor.fetchall()
    return int(number)
