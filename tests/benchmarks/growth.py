"""What changes as the table grows: time, WAL, space; and how it is purged."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import exp
from statistics import median

from django.db import connection

from tests.benchmarks.counting import ask
from tests.benchmarks.drawing import bars, lines
from tests.benchmarks.growing import Space, fill
from tests.benchmarks.pages import cpu_of_server
from tests.benchmarks.purging import Purging, purging, told
from tests.benchmarks.rounds import NUMBERS, TRUSTED, Effort, Rounds, Say
from tests.benchmarks.subjects import BARE, CONTROL, DUPLICATE, FIRST, SUBJECTS, first
from tests.benchmarks.writing import Findings, table

PAGE = 8192
#: Records between two checkpoints, in what is reckoned for larger tables.
BETWEEN = (10_000, 100_000, 1_000_000)
LARGE = (10_000_000, 100_000_000, 1_000_000_000)
LOOKUPS = 200
#: Records of the table of which half is purged, at most.
HALVED = 1_000_000


@dataclass(frozen=True)
class Grown:
    """What was found at one size.

    Attributes:
        wal: Bytes of WAL for a first execution just after a checkpoint.
        images: Of whole pages, for each of them.
        predicted: The same by the formula.
    """

    rows: int
    space: Space
    rounds: Rounds
    wal: float
    images: float
    predicted: float
    lookup: float
    buffers: int


def measure(say: Say, effort: Effort) -> Findings:
    """Every size that is asked for, and the purge at the last of them."""
    found = Findings("growth")
    grown = [_grown(rows, say, effort) for rows in effort.rows]
    found.blocks["sizes"] = _sizes(grown)
    say("growth: purges, and first executions beside them")
    purges = [purging(grown[-1].rows)]
    fill(halved := min(grown[-1].rows, HALVED), say, days=60)
    purges.append(purging(halved))
    found.blocks["purge"] = told(purges)
    found.blocks["space"], found.blocks["larger"] = _space(grown), _larger(grown, purges[0])
    found.drawings["growth-time.svg"] = bars(
        "Time by that of the bare transaction, with so many records",
        ["first execution", "duplicate"],
        [(f"{g.rows:,}", [g.rounds.ratio(FIRST), g.rounds.ratio(DUPLICATE)]) for g in grown],
    )
    found.drawings["growth-wal.svg"] = lines(
        "Images of whole pages for each of so many records after a checkpoint",
        [f"{rows:,} records in the table" for rows in LARGE],
        BETWEEN,
        [[_images(_leaves(rows, grown[-1]), n) for n in BETWEEN] for rows in LARGE],
    )
    few, many = grown[0], grown[-1]
    found.headline = (
        f"- A first execution takes {few.rounds.ratio(FIRST):.2f} times as long as the bare "
        f"transaction with {few.rows:,} records, and {many.rounds.ratio(FIRST):.2f} times with "
        f"{many.rows:,}; what grows is the WAL after a checkpoint.\n"
    )
    found.warnings += [
        f"NOT TO BE TRUSTED: with {each.rows:,} records, the bare transaction took "
        f"{each.rounds.ratio(CONTROL):.2f} times as long as itself."
        for each in grown
        if abs(each.rounds.ratio(CONTROL) - 1) > TRUSTED
    ]
    return found


def _grown(rows: int, say: Say, effort: Effort) -> Grown:
    space = fill(rows, say)
    say(f"growth: {rows:,} records: calls")
    calls = 20 * effort.calls
    wal, images = _after_a_checkpoint(calls)
    lookup, buffers = _lookup(rows)
    subjects = [each for each in SUBJECTS if each.name in (BARE, CONTROL, FIRST, DUPLICATE)]
    rounds = Rounds(
        subjects,
        rounds=effort.rounds,
        calls=effort.calls,
        seconds=0.1 * effort.seconds,
        server_cpu=lambda: cpu_of_server() / 1000,
    )
    predicted = _images(space.leaves, calls)
    return Grown(rows, space, rounds, wal, images, predicted, lookup, buffers)


def _after_a_checkpoint(calls: int) -> tuple[float, float]:
    """Bytes of WAL, and images of whole pages, for each of the first executions that follow it."""
    spent = "SELECT wal_bytes, wal_fpi FROM pg_stat_get_backend_wal(pg_backend_pid())"
    ask("SELECT set_config('synchronous_commit', 'off', false)")
    first(next(NUMBERS))
    with connection.cursor() as cursor:
        cursor.execute("CHECKPOINT")
    ask("SELECT pg_stat_force_next_flush()::text")
    size, images = ask(spent)
    for _ in range(calls):
        first(next(NUMBERS))
    ask("SELECT pg_stat_force_next_flush()::text")
    size_after, images_after = ask(spent)
    connection.close()
    return float(size_after - size) / calls, float(images_after - images) / calls


def _lookup(rows: int) -> tuple[float, int]:
    """Microseconds of the server for a look at a record of any age, and the pages it reads."""
    look = "SELECT state, result FROM idempotency_record WHERE key_hash = md5(%s)::uuid"
    keys = [str(random.randint(1, max(rows, 1))) for _ in range(LOOKUPS)]
    connection.ensure_connection()
    times = []
    for key in keys:
        before = cpu_of_server()
        ask(look, key)
        times.append(1000 * (cpu_of_server() - before))
    [plan] = ask(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {look}", keys[0])
    node = plan[0]["Plan"]
    return median(times), node["Shared Hit Blocks"] + node["Shared Read Blocks"]


def _images(leaves: float, records: int) -> float:
    """Of whole pages, for each of so many records with random keys after a checkpoint: the share
    of the leaves of the index that they touch for the first time."""
    return leaves / records * (1 - exp(-records / leaves)) if leaves else 0


def _leaves(rows: int, known: Grown) -> float:
    return known.space.leaves * rows / max(known.rows, 1)


def _sizes(grown: list[Grown]) -> str:
    heads = ["Records", "first execution, by bare", "duplicate, by bare"]
    heads += ["server's CPU over bare, first, µs", "look, server's CPU, µs", "pages read by a look"]
    heads += ["bytes of WAL after a checkpoint", "page images", "by the formula", "A/A"]
    return table(
        heads,
        [
            [
                f"{each.rows:,}",
                f"**{each.rounds.ratio(FIRST):.2f}**",
                f"**{each.rounds.ratio(DUPLICATE):.2f}**",
                f"{each.rounds.cpu_over(FIRST, 'server'):.0f}",
                f"{each.lookup:.0f}",
                each.buffers,
                f"{each.wal:.0f}",
                f"{each.images:.2f}",
                f"{each.predicted:.2f}",
                f"{each.rounds.ratio(CONTROL):.2f}",
            ]
            for each in grown
        ],
    )


def _space(grown: list[Grown]) -> str:
    rows = [
        [
            f"{each.rows:,}",
            f"{each.space.table / each.rows:.0f}",
            f"{each.space.indexes / each.rows:.0f}",
            f"{each.space.leaves * PAGE / each.rows:.0f}",
            f"{(each.space.table + each.space.indexes) / 1e9:.2f}",
        ]
        for each in grown
        if each.rows
    ]
    heads = ["Records", "table, bytes a record", "all indexes, bytes a record"]
    return table([*heads, "of these the key's", "together, GB"], rows)


def _larger(grown: list[Grown], purge: Purging) -> str:
    """Reckoned, not measured."""
    heads = ["Records", "table and indexes, GB", "pages of the key's index", "a purge, s"]
    heads += [f"page images a record, {n:,} between checkpoints" for n in BETWEEN]
    known, image = grown[-1], (grown[-1].wal - grown[0].wal) / max(grown[-1].images, 0.01)
    each = (known.space.table + known.space.indexes) / max(known.rows, 1)
    rows = []
    for size in LARGE:
        leaves = _leaves(size, known)
        images = [f"{_images(leaves, n):.2f}" for n in BETWEEN]
        space = [f"{size * each / 1e9:.0f}", f"{leaves:,.0f}"]
        seconds = size * purge.seconds / max(purge.rows, 1)
        rows.append([f"{size:,}", *space, f"{seconds:,.0f}", *images])
    return (
        f"{table(heads, rows)}\nA page image took {image:,.0f} bytes in what was measured above.\n"
    )
