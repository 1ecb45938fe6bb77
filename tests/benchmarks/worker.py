"""A real Celery worker: each task plain, and the same task decorated, beside each other."""

from __future__ import annotations

import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from statistics import median

from celery import Task
from django.conf import settings

from tests.benchmarks import starting, tasks_ours, tasks_plain
from tests.benchmarks.crew import Crew
from tests.benchmarks.drawing import bars
from tests.benchmarks.rounds import NUMBERS, Effort, Say
from tests.benchmarks.writing import Findings, table
from tests.harness.brokers import Broker, RabbitMQ, on_rabbitmq, on_valkey, started

BODIES = {"empty": "empty", "one_row": "one row by the ORM", "ten_rows": "ten rows by the ORM"}
CONFIGURATIONS = (
    # broker, children, whether connections to the database are kept
    ("Valkey", 1, False),
    ("Valkey", 2, False),
    ("RabbitMQ", 1, False),
    ("RabbitMQ", 2, False),
    ("Valkey", 1, True),
)


def measure(say: Say, effort: Effort) -> Findings:
    """Throughput, processors, memory and start."""
    found = Findings("worker")
    rows, drawn = [], []
    with tempfile.TemporaryDirectory() as name, brokers(found) as reached:
        folder = Path(name)
        for broker, children, keeps in CONFIGURATIONS:
            if broker not in reached:
                continue
            named = f"{broker}, {children} {'child' if children == 1 else 'children'}"
            named += ", connections kept" if keeps else ""
            say(f"worker: {named}")
            more = {"BENCH_KEEPS_CONNECTIONS": "1"} if keeps else {}
            with Crew(reached[broker], children=children, folder=folder, **more) as crew:
                times = _times(crew, effort)
            found.headline = found.headline or _headline(named, *times["one_row"])
            for body, (plain, ours) in times.items():
                rows.append([named, BODIES[body], *_figures(plain, ours)])
                drawn.append((f"{named}: {BODIES[body]}", _rates(plain, ours)))
        say("worker: memory, imports and checks")
        found.blocks["start"] = starting.table_of(
            reached["Valkey"], folder, times=max(1, effort.rounds // 3)
        )
    heads = ["Worker", "Body", "plain, tasks/s", "decorated, tasks/s", "by plain"]
    heads += ["plain, CPU µs", "decorated, CPU µs", "CPU over plain, µs"]
    found.blocks["tasks"] = table(heads, rows)
    found.drawings["worker.svg"] = bars("Tasks per second", ["plain", "decorated"], drawn)
    return found


@contextmanager
def brokers(found: Findings) -> Iterator[dict[str, Broker]]:
    """Those that can be had here."""
    reached = {"Valkey": on_valkey(settings.CELERY_BROKER_URL, visibility_timeout=3600)}
    with ExitStack() as stack:
        if RabbitMQ.program().exists():
            try:
                server = stack.enter_context(started(RabbitMQ))
                reached["RabbitMQ"] = on_rabbitmq(server, quorum=False)
            except RuntimeError as error:
                found.warnings.append(f"SKIPPED: RabbitMQ. {error}")
        else:
            found.warnings.append("SKIPPED: RabbitMQ. Install it: apt-get install rabbitmq-server")
        yield reached


Series = list[tuple[float, float]]


def _times(crew: Crew, effort: Effort) -> dict[str, tuple[Series, Series]]:
    """Of each body the plain and the decorated batches, in pairs."""
    times: dict[Task, Series] = defaultdict(list)
    pairs = {body: (getattr(tasks_plain, body), getattr(tasks_ours, body)) for body in BODIES}
    tasks = [task for pair in pairs.values() for task in pair]
    for task in tasks:  # connections, plans and caches are there
        crew.batch(task, list(islice(NUMBERS, 2 * crew.children)))
    end = time.monotonic() + effort.seconds / (len(CONFIGURATIONS) + 2)
    for _ in range(effort.rounds):
        for task in random.sample(tasks, len(tasks)):
            times[task].append(crew.batch(task, list(islice(NUMBERS, effort.calls))))
        if time.monotonic() > end:
            break
    return {body: (times[plain], times[ours]) for body, (plain, ours) in pairs.items()}


def _headline(named: str, plain: Series, ours: Series) -> str:
    _, _, ratio, *_, more = _figures(plain, ours)
    return (
        f"- In a Celery worker ({named}), a task with one row by the ORM runs at {ratio} of the "
        f"plain task's rate, and takes {more} µs of a processor more.\n"
    )


def _rates(plain: Series, ours: Series) -> list[float]:
    return [1 / median(wall for wall, _ in series) for series in (plain, ours)]


def _figures(plain: Series, ours: Series) -> list[str]:
    before, after = _rates(plain, ours)
    pairs = list(zip(plain, ours, strict=True))
    ratio = median(one[0] / other[0] for one, other in pairs)
    cpu = [1e6 * median(spent for _, spent in series) for series in (plain, ours)]
    more = 1e6 * median(other[1] - one[1] for one, other in pairs)
    return [
        f"{before:.0f}", f"{after:.0f}", f"**{ratio:.2f}**",
        *(f"{each:.0f}" for each in cpu), f"{more:.0f}",
    ]  # fmt: skip
