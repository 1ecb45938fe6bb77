"""One call beside the bare transaction: Django's ``atomic()`` around one INSERT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from tests.benchmarks import profiling
from tests.benchmarks.busy import MANY, busy, table_of
from tests.benchmarks.counting import Counts, ask, counts
from tests.benchmarks.distance import at_a_distance
from tests.benchmarks.drawing import bars
from tests.benchmarks.pages import cpu_of_server
from tests.benchmarks.rounds import TRUSTED, Effort, Rounds, Say
from tests.benchmarks.subjects import BARE, CONTROL, DUPLICATE, FIRST, FLAGGED, SUBJECTS
from tests.benchmarks.writing import Findings, table

NEAR, UNFLUSHED, FAR = "0 ms", "0 ms, no flush", "1 ms"


def measure(say: Say, effort: Effort) -> Findings:
    """Times, counts and where the time goes."""
    calls, tries = effort.calls, min(effort.calls, 10)
    found = Findings("calls")
    size = {"rounds": effort.rounds, "seconds": 0.3 * effort.seconds}
    series = {}
    say("calls: the database beside us")
    series[NEAR] = Rounds(SUBJECTS, calls=calls, server_cpu=_server_seconds, **size)
    say("calls: the same, and COMMIT does not wait for the disk")
    with unflushed():
        series[UNFLUSHED] = Rounds(SUBJECTS, calls=calls, **size)
    say("calls: the database a millisecond away")
    with at_a_distance():
        series[FAR] = Rounds(SUBJECTS, calls=max(2, calls // 4), **size)
        far = {1: busy(1, 10 * tries), MANY: busy(MANY, tries)}
    found.blocks["times"] = _times(series)
    found.drawings["calls.svg"] = _drawing(series)
    found.headline = _headline(series)
    near = {processes: busy(processes, 10 * tries) for processes in far}
    found.blocks["busy"] = table_of(near, far)
    say("calls: what they cost the server")
    found.blocks["counts"] = _counts(counts(SUBJECTS, calls=min(calls, 10)))
    say("calls: where the time goes")
    found.blocks["profile"], found.drawings["profile.svg"] = profiling.profile(
        calls=100 * calls, seconds=0.2 * effort.seconds
    )
    found.warnings += [
        f"NOT TO BE TRUSTED: with {where}, the bare transaction took "
        f"{each.ratio(CONTROL):.2f} times as long as itself."
        for where, each in series.items()
        if abs(each.ratio(CONTROL) - 1) > TRUSTED
    ]
    return found


@contextmanager
def unflushed() -> Iterator[None]:
    ask("SELECT set_config('synchronous_commit', 'off', false)")
    yield
    connection.close()


def _server_seconds() -> float:
    return cpu_of_server() / 1000


def _times(series: dict[str, Rounds]) -> str:
    near = series[NEAR]
    heads = ["Call", "µs", "by bare", "half of the rounds", "by bare, no flush"]
    heads += ["by bare, 1 ms away", "Python's CPU over bare, µs", "server's CPU over bare, µs"]
    rows = []
    for name in near.subjects:
        low, high = near.spread(name)
        ratios = [f"**{near.ratio(name):.2f}**", f"{low:.2f} to {high:.2f}"]
        ratios += [f"{series[where].ratio(name):.2f}" for where in (UNFLUSHED, FAR)]
        cpu = [f"{near.cpu_over(name, where):.0f}" for where in ("python", "server")]
        rows.append([name, f"{near.microseconds(name):.0f}", *ratios, *cpu])
    rounds = ", ".join(
        f"{each.rounds} ({where}; the bare transaction in {each.microseconds(BARE):.0f} µs)"
        for where, each in series.items()
    )
    return f"{table(heads, rows)}\nRounds: {rounds}.\n"


def _headline(series: dict[str, Rounds]) -> str:
    def said(name: str) -> str:
        near, far = (series[where].ratio(name) for where in (NEAR, FAR))
        return f"takes {near:.2f} times as long as the bare transaction ({far:.2f} from 1 ms away)"

    return (
        f"- A first execution {said(FIRST)}.\n"
        f"- A duplicate {said(DUPLICATE)}, and {series[NEAR].ratio(FLAGGED):.2f} times when its "
        "message is flagged as redelivered.\n"
    )


def _drawing(series: dict[str, Rounds]) -> str:
    names = [name for name, subject in series[NEAR].subjects.items() if name != subject.base]
    return bars(
        "Time of a call by that of its bare transaction",
        list(series),
        [(name, [each.ratio(name) for each in series.values()]) for name in names],
    )


def _counts(found: dict[str, Counts]) -> str:
    rows = [
        [name, f"{each.round_trips:.0f}", f"{each.wal:.0f}", f"{each.flushes:.0f}"]
        for name, each in found.items()
        if name != CONTROL
    ]
    return table(["Call", "Round trips", "Bytes of WAL", "Flushes to disk"], rows)
