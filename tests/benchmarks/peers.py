"""This app beside others that guard a run, in one run and on the same servers."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from project.services import throwaway_state
from project.valkey import Valkey
from tests.benchmarks.databases import own_database
from tests.benchmarks.drawing import bars
from tests.benchmarks.others import others
from tests.benchmarks.rounds import TRUSTED, Effort, Say
from tests.benchmarks.subjects import BARE, CONTROL
from tests.benchmarks.writing import Findings, table
from tests.harness.processes import ROOT

IN_SHORT = (
    "this app, Transactional",
    "`get_or_create` and `save` in `atomic()`",
    "django-reliable-outbox, inbox",
    "idemkit on PostgreSQL",
    "Powertools on Valkey, each write to disk",
    "DBOS, a workflow of one transaction",
)
PYTHON = ROOT / ".venv-bench/bin/python"


def measure(say: Say, effort: Effort) -> Findings:
    """The others, and this app beside them, run in a virtual environment of their own, which
    ``make bench`` makes with the newest Python that it finds."""
    found = Findings("peers")
    if not PYTHON.exists():
        found.warnings.append("SKIPPED: there is no .venv-bench. Run it as `make bench`.")
        return found
    say("peers: all in one run")
    answer = _run(effort)
    named = {other.name: other for other in others("", "")}
    found.versions = answer["versions"]
    found.blocks["table"] = table_of(answer, named)
    found.headline = _headline(answer)
    found.drawings["peers.svg"] = _drawing(answer, named)
    found.warnings += [f"SKIPPED: {name}. {why}." for name, why in answer["skipped"].items()]
    control = answer["subjects"][CONTROL]["ratio"]
    if abs(control - 1) > TRUSTED:
        found.warnings.append(
            f"NOT TO BE TRUSTED: the bare transaction took {control:.2f} times as long as itself."
        )
    return found


def _run(effort: Effort) -> dict[str, Any]:
    """What was measured, beside a Valkey that writes to disk now and then, and one that does so
    before each answer. In a database of its own: its keys begin anew, and a key that another part
    has had would be replayed."""
    size = {"rounds": effort.rounds, "calls": max(1, effort.calls // 3), "seconds": effort.seconds}
    options = [f"--{name}={value}" for name, value in size.items()]
    with throwaway_state() as one, throwaway_state() as other, own_database() as url:
        cache = Valkey(one, options={"appendonly": "no"})
        durable = Valkey(other, options={"appendfsync": "always"})
        try:
            cache.start()
            durable.start()
            done = subprocess.run(
                [PYTHON, "-m", "tests.benchmarks.peering", *options],
                cwd=ROOT,
                env=os.environ
                | {
                    "DATABASE_URL": url,
                    "BENCH_CACHE_URL": cache.url,
                    "BENCH_DURABLE_URL": durable.url,
                },
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            )
        finally:
            cache.stop()
            durable.stop()
    return json.loads(done.stdout)


def table_of(answer: dict[str, Any], named: dict[str, Any]) -> str:
    """A row for each, also for one that was not measured."""
    heads = [
        "",
        "Release",
        "first run, by bare",
        "duplicate, by bare",
        "Python's CPU over bare, µs: first",
    ]
    heads += ["duplicate", "Effect and record", "Killed between them", "A duplicate gets"]
    subjects = answer["subjects"]
    rows = []
    for name, other in named.items():
        if name in answer["skipped"]:
            why = " ".join(answer["skipped"][name].replace("|", "/").split())
            figures = [f"skipped: {why}", "", "", "", ""]
            rows.append([name, *figures, other.together, other.killed, other.answers])
            continue
        release = answer["releases"].get(other.package, "")
        first, again = subjects[name], subjects[f"{name}, again"]
        figures = [f"**{first['ratio']:.2f}**", f"**{again['ratio']:.2f}**"]
        figures += [f"{first['cpu']:.0f}", f"{again['cpu']:.0f}"]
        rows.append([name, release, *figures, other.together, other.killed, other.answers])
    return (
        f"{table(heads, rows, words=3)}\n"
        f"{answer['rounds']} rounds. The bare transaction took "
        f"{subjects[BARE]['microseconds']:.0f} µs, and {subjects[CONTROL]['ratio']:.2f} times as "
        "long as itself (A/A).\n"
    )


def _headline(answer: dict[str, Any]) -> str:
    ratios = [
        f"{name} {answer['subjects'][name]['ratio']:.2f}"
        for name in IN_SHORT
        if name in answer["subjects"]
    ]
    return f"- First runs beside each other, by the bare transaction: {'; '.join(ratios)}.\n"


def _drawing(answer: dict[str, Any], named: dict[str, Any]) -> str:
    measured = [name for name in named if name not in answer["skipped"]]
    subjects = answer["subjects"]
    return bars(
        "Time by that of the bare transaction",
        ["first run", "duplicate"],
        [
            (name.replace("`", ""), [subjects[name]["ratio"], subjects[f"{name}, again"]["ratio"]])
            for name in measured
        ],
    )
