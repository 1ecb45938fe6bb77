"""Where the processor's time of a first execution goes, by whose code runs.

On the processor's clock: what else runs on the machine is not in it, and waiting is not either.
"""

from __future__ import annotations

import cProfile
import pstats
import time
from collections import defaultdict

from tests.benchmarks.drawing import bars
from tests.benchmarks.rounds import NUMBERS
from tests.benchmarks.subjects import bare, first
from tests.benchmarks.writing import table

#: What of a path tells whose it is; the rest is Python's own.
OWNERS = {
    "/idempotency/": "this app",
    "/tests/benchmarks/": "the body",
    "/psycopg": "psycopg",
    "/django/": "Django",
}
#: Of psycopg, what sends a message to the server and takes its answer.
TALKS = ("wait", "_execute_send", "_exec_command")
TALKING = "psycopg, sending and receiving"
FUNCTIONS = 15


SHOWN = "![Bars: microseconds of the processor for a call, by whose code runs](profile.svg)\n\n"


def profile(calls: int) -> tuple[str, str]:
    """Tables, and the drawing that stands above them."""
    ours, alone = _profiled(first, calls), _profiled(bare, calls)
    shares, bare_shares = _by_owner(ours, calls), _by_owner(alone, calls)
    owners = sorted(shares, key=lambda owner: -shares[owner])
    rows = [[owner, f"{shares[owner]:.0f}", f"{bare_shares[owner]:.0f}"] for owner in owners]
    blocks = SHOWN + table(["Whose code", "first execution, µs", "bare transaction, µs"], rows)
    own = [place for place in ours.stats if _owner(place) == "this app"]
    own.sort(key=lambda place: -ours.stats[place][2])
    slowest = [
        [f"`{_module(place)}`", f"`{place[2]}`", f"{1e6 * ours.stats[place][2] / calls:.1f}"]
        for place in own[:FUNCTIONS]
    ]
    blocks += "\n" + table(["Module of this app", "Function", "its own µs"], slowest)
    drawing = bars(
        "Microseconds of the processor for a call, by whose code runs",
        ["first execution", "bare transaction"],
        [(owner, [shares[owner], bare_shares[owner]]) for owner in owners],
    )
    return blocks, drawing


def _profiled(call, calls: int) -> pstats.Stats:
    call(next(NUMBERS))
    profiler = cProfile.Profile(time.process_time)
    for _ in range(calls):
        number = next(NUMBERS)
        profiler.enable()
        call(number)
        profiler.disable()
    return pstats.Stats(profiler)


def _by_owner(stats: pstats.Stats, calls: int) -> dict[str, float]:
    """Microseconds of a call, in functions of each owner."""
    shares: dict[str, float] = defaultdict(float)
    for place, (_, _, own, _, _) in stats.stats.items():
        shares[_owner(place)] += 1e6 * own / calls
    return shares


def _owner(place: tuple[str, int, str]) -> str:
    path, _, function = place
    if "/psycopg" in path and function in TALKS:
        return TALKING
    return next(
        (owner for part, owner in OWNERS.items() if part in path + function), "Python's own"
    )


def _module(place: tuple[str, int, str]) -> str:
    return place[0].rpartition("/idempotency/")[2]
