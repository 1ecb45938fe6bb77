"""What the app costs before its first call: memory of a child, imports, checks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from statistics import median

from tests.benchmarks import tasks_ours, tasks_plain
from tests.benchmarks.crew import Crew
from tests.benchmarks.rounds import NUMBERS
from tests.benchmarks.writing import table
from tests.harness.brokers import Broker
from tests.harness.processes import ROOT, database_url

WITHOUT = {"BENCH_WITHOUT_US": "1"}
CHECK, AT_START = "check --database default", "log_checks()"
#: Seconds of a processor, in a process of its own.
STEPS = f"""
import json, sys, time
spent = {{}}
def took(name, step):
    before = time.process_time()
    step()
    spent[name] = time.process_time() - before
def of_root():
    import idempotency
def of_setup():
    import django, celery
    django.setup()
def of_check():
    from django.core.management import call_command
    call_command("check", databases=["default"], verbosity=0)
def of_start():
    from idempotency.contrib.celery_checks import log_checks
    log_checks()
if "without" not in sys.argv:
    took("import idempotency", of_root)
import django, celery
took("django.setup()", of_setup)
if "worker" in sys.argv:
    from tests.benchmarks.celery import app
    app.loader.import_default_modules()
    took("{AT_START}", of_start)
else:
    took("{CHECK}", of_check)
print(json.dumps(spent))
"""


def table_of(broker: Broker, folder: Path, *, times: int) -> str:
    """Each with the app installed, and without."""
    memory = [_memory(broker, folder, WITHOUT), _memory(broker, folder, {})]
    runs: list[list[dict[str, float]]] = [[], []]
    starts = []
    for _ in range(times):
        for series, more in zip(runs, (WITHOUT, {}), strict=True):
            series.append(_steps("without" if more else "with", more))
        starts.append(_steps("worker", {})[AT_START])
    rows = [["memory of a worker's child (Pss), MB", *_both(*memory, digits=1)]]
    root = 1000 * median(run["import idempotency"] for run in runs[1])
    rows.append(["`import idempotency`, CPU ms", "", f"{root:.1f}", f"{root:.1f}"])
    for name in ("django.setup()", CHECK):
        without, with_us = (1000 * median(run[name] for run in series) for series in runs)
        rows.append([f"`{name}`, CPU ms", *_both(without, with_us, digits=0)])
    start = f"{1000 * median(starts):.0f}"
    rows.append([f"`{AT_START}` of a worker, CPU ms", "", start, start])
    return table(["", "without the app", "with it", "more"], rows)


def _both(without: float, with_us: float, *, digits: int) -> list[str]:
    return [f"{each:.{digits}f}" for each in (without, with_us, with_us - without)]


def _memory(broker: Broker, folder: Path, more: dict[str, str]) -> float:
    with Crew(broker, children=2, folder=folder, **more) as crew:
        task = tasks_plain.one_row if more else tasks_ours.one_row
        crew.batch(task, list(islice(NUMBERS, 100)))
        return crew.memory()


def _steps(what: str, more: dict[str, str]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", STEPS, what],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": database_url()} | more,
        capture_output=True,
        check=True,
        text=True,
    )
    spent: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return spent
