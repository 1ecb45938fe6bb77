"""What a storm says at its end: a table by fault, a table by promise, and the verdict in words."""

from collections import Counter
from io import StringIO

from django.core.management import CommandError, call_command

from idempotency.models import IdempotencyEvent, Kind
from tests.chaos.deck import PROMISES
from tests.chaos.settlement import key_hash
from tests.chaos.storm import Storm
from tests.chaos.tasks import TASKS
from tests.chaos.units import Unit
from tests.chaos.verdict import Calm, Findings

STORIES = 5


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """Names to the left, numbers to the right."""
    cells = [tuple(map(_shown, row)) for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _shown(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def by_fault(storm: Storm) -> str:
    """How often each fault has struck, and what it left of the keys that it struck."""
    promises = {
        key: promise
        for unit in storm.publisher.intended
        for key, promise in zip(unit.keys, unit.promises, strict=True)
    }
    hashes = {
        key_hash(promises[key], key): key for keys in storm.faults.keys.values() for key in keys
    }
    left: dict[str, Counter[str]] = {}
    for found, kind in IdempotencyEvent.objects.filter(
        kind__in=[Kind.DEFERRED, Kind.IN_DOUBT]
    ).values_list("key_hash", "kind"):
        if found in hashes:
            left.setdefault(hashes[found], Counter())[kind] += 1
    rows: list[tuple[object, ...]] = []
    for fault, number in sorted(storm.faults.struck.items()):
        keys = storm.faults.keys[fault]
        redelivered = sum(storm.journal.redeliveries(key) for key in keys)
        events = sum((left.get(key, Counter()) for key in keys), Counter())
        rows.append((fault, number, redelivered, events[Kind.DEFERRED], events[Kind.IN_DOUBT]))
    return table(("fault", "struck", "redelivered", "deferred", "doubts"), rows)


def by_promise(storm: Storm, calm: Calm, findings: Findings) -> str:
    """What was intended, and what became of it."""
    rows: list[tuple[object, ...]] = []
    resolved = Counter(
        IdempotencyEvent.objects.filter(kind=Kind.RESOLVED).values_list("scope", flat=True)
    )
    for promise in PROMISES:
        count, task = findings.by_promise[promise], TASKS[promise].__name__
        answered = storm.journal.ends[task, "SUCCESS"] - count["done"]
        rows.append(
            (
                promise,
                count["intended"],
                count["done"],
                max(0, answered),
                resolved[f"tests.chaos.tasks.{task}"],
                calm.doubts[promise],
                count["lost"],
                count["doubled"],
            )
        )
    head = (
        "promise",
        "intended",
        "done",
        "replayed",
        "doubts settled",
        "of them at the end",
        "lost",
        "doubled",
    )
    return table(head, rows)


def by_shape(storm: Storm, findings: Findings) -> str:
    """How many messages, chains and chords are complete."""
    bad = {key.rpartition(".")[0] for key in findings.keys}
    said = []
    for shape in ("message", "chain", "chord"):
        units: list[Unit] = [unit for unit in storm.publisher.intended if unit.shape == shape]
        whole = sum(unit.name not in bad for unit in units)
        said.append(f"{whole:,} of {len(units):,} {shape}s")
    return f"Complete: {', '.join(said)}."


def stories(storm: Storm, keys: list[str]) -> str:
    """What the app and the journal know of keys that went wrong."""
    told = []
    for key in keys[:STORIES]:
        unit = next(u for u in storm.publisher.intended if key.startswith(f"{u.name}."))
        promise = dict(zip(unit.keys, unit.promises, strict=True))[key]
        out = StringIO()
        try:
            scope = f"tests.chaos.tasks.{TASKS[promise].__name__}"
            call_command("idempotency_show", key, scope=scope, stdout=out)
        except CommandError as error:
            out.write(f"{error}\n")
        copies = storm.journal.copies[key]
        came = [storm.journal.delivered[copy] for copy in copies]
        ended = sum(copy in storm.journal.ended for copy in copies)
        told.append(
            f"-- {key} ({promise}, a step of {unit}): {len(copies)} copies, delivered {came} "
            f"times, {ended} of them ended\n{out.getvalue()}"
        )
    return "\n".join(told)
