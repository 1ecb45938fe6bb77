"""Where the time of a first execution goes, layer by layer: a task, plain and decorated.

Both are run by Celery's tracer, as a worker's child runs them, one beside the other. What a call
takes by the clock on the wall and not on the processor, it has waited for PostgreSQL. The
processor's time is shared out by samples: at each tick of its clock (4 ms, with the usual 250 Hz)
the stack is noted, which costs next to nothing; a profiler that traces makes small functions large.
(setitimer(2), ITIMER_PROF)
"""

from __future__ import annotations

import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from math import sqrt
from statistics import median
from types import FrameType

from celery import Celery
from celery.app.trace import build_tracer

from tests.benchmarks.drawing import flames
from tests.benchmarks.rounds import NUMBERS
from tests.benchmarks.subjects import bare, first
from tests.benchmarks.writing import table

WAITED, TALKING, APP = "waiting for PostgreSQL", "psycopg, sending and receiving", "this app"
#: By the package whose code runs. What is in none of them counts for who called it.
LAYERS = {
    "psycopg": "psycopg",
    "django": "Django",
    "celery": "Celery",
    "kombu": "Celery",
    "idempotency": APP,
    "tests": "the body",
}
#: Of psycopg, the frames in which its C code sends a message to the server and takes its answer.
TALKS = ("Connection.wait", "_execute_send", "_exec_command")
SHOWN = (
    "![Flame graph: the processor's time of a decorated task, by whose code runs](profile.svg)\n\n"
)
MODULES, NAMED = 12, 3

Stack = tuple[tuple[str, str], ...]
"""Module and qualified name of each frame, the outermost first."""


@dataclass
class Profile:
    """Of one task. Seconds of each call, and how often each stack was seen on the processor."""

    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)
    stacks: Counter[Stack] = field(default_factory=Counter)

    def layers(self) -> dict[str, float]:
        """Microseconds of a call."""
        spent = dict.fromkeys((WAITED, TALKING, *LAYERS.values()), 0.0)
        spent[WAITED] = 1e6 * (median(self.walls) - median(self.cpus))
        for stack, seen in self.stacks.items():
            spent[layer_of(stack)] += seen * self.sample
        return spent

    def modules(self) -> Counter[str]:
        """Microseconds of a call in each module of this app."""
        spent: Counter[str] = Counter()
        for stack, seen in self.stacks.items():
            if layer_of(stack) == APP:
                module = next(
                    name for name, _ in reversed(stack) if _package(name) == "idempotency"
                )
                spent[module] += seen * self.sample
        return spent

    @property
    def sample(self) -> float:
        """Microseconds of a call that a sample stands for."""
        return 1e6 * median(self.cpus) / max(1, self.stacks.total())


def layer_of(stack: Stack) -> str:
    """Whose code runs."""
    for module, function in reversed(stack):
        layer = LAYERS.get(_package(module))
        if layer == "psycopg" and function.endswith(TALKS):
            return TALKING
        if layer:
            return layer
    return "Celery"  # Python's own, called by its tracer


def profile(calls: int, seconds: float) -> tuple[str, str]:
    """Tables and what they say, and the drawing that stands above them."""
    plain, ours = _profiled({"plain": bare, "decorated": first}, calls, seconds)
    before, after, modules = plain.layers(), ours.layers(), ours.modules()
    chance = 2 * sqrt(ours.sample * after[APP])
    block = (
        f"{SHOWN}{_layers(before, after)}\n{_said(before, after, modules)}\n{_modules(modules)}\n"
        f"{len(ours.walls)} calls of each task; {ours.stacks.total()} samples of the decorated "
        f"one, {plain.stacks.total()} of the plain one. By chance alone, the {after[APP]:.0f} µs "
        f"of this app may be off by {chance:.0f}.\n"
    )
    title = f"The processor's time of a decorated task: {1e6 * median(ours.cpus):.0f} µs"
    return block, flames(title, ours.stacks, layer_of)


def _layers(before: dict[str, float], after: dict[str, float]) -> str:
    whole = [sum(before.values()), sum(after.values())]
    rows = [[name, *_row(before[name], after[name], whole[1])] for name in after]
    rows.append(["**together**", *(f"**{each}**" for each in _row(*whole, whole[1]))])
    heads = ["Layer", "plain task, µs", "decorated task, µs", "more, µs", "of the decorated, %"]
    return table(heads, rows)


def _row(before: float, after: float, whole: float) -> list[str]:
    return [f"{each:.0f}" for each in (before, after, after - before, 100 * after / whole)]


def _modules(modules: Counter[str]) -> str:
    rows = [
        [f"`{_path(name)}`", f"{spent:.0f}", f"{100 * spent / modules.total():.0f}"]
        for name, spent in modules.most_common(MODULES)
    ]
    return table(["Module of this app", "µs", "of this app, %"], rows)


def _said(before: dict[str, float], after: dict[str, float], modules: Counter[str]) -> str:
    """What the tables say, in words."""
    more = {name: after[name] - before[name] for name in after}
    plain, total = sum(before.values()), sum(after.values())
    parts = [f"{name} ({more[name]:.0f})" for name in sorted(more, key=lambda name: -more[name])]
    places = [f"`{_path(name)}` ({spent:.0f})" for name, spent in modules.most_common(NAMED)]
    said = (
        f"The plain task takes {plain:.0f} µs, of which it waits "
        f"{100 * before[WAITED] / plain:.0f} % for PostgreSQL; the decorated one takes "
        f"{total:.0f} µs, of which it waits {100 * after[WAITED] / total:.0f} %.\n"
        f"The {total - plain:.0f} µs more, the largest first: {', '.join(parts)}.\n"
    )
    if places:
        said += f"The most of this app's own {after[APP]:.0f} µs are in {', '.join(places)}.\n"
    return said


def _profiled(
    bodies: dict[str, Callable[[int], object]], calls: int, seconds: float
) -> list[Profile]:
    """Each as a task, side by side, so many times and about so long."""
    app = Celery(broker="memory://", backend="disabled://", set_as_current=False)
    runs = [(_traced(app, name, body), Profile()) for name, body in bodies.items()]
    for run, _ in runs:
        run(next(NUMBERS))  # connections, plans and caches are there
    end = time.monotonic() + seconds
    with _sampled() as into:
        for number in islice(NUMBERS, calls):
            for run, profile in random.sample(runs, len(runs)):
                cpu, wall = time.process_time(), time.perf_counter()
                into.append(profile.stacks)
                run(number)
                into.clear()
                profile.walls.append(time.perf_counter() - wall)
                profile.cpus.append(time.process_time() - cpu)
            if time.monotonic() > end:
                break
    return [profile for _, profile in runs]


def _traced(app: Celery, name: str, body: Callable[[int], object]) -> Callable[[int], object]:
    """As a worker's child runs it, whose connection to the database is kept."""
    task = app.task(name=name)(body)
    trace = build_tracer(task.name, task, app=app)

    def run(number: int) -> None:
        request = {"id": str(uuid.uuid4()), "delivery_info": {}, "retries": 0}
        assert trace(request["id"], (number,), {}, request).info is None, "the task has failed"

    return run


@contextmanager
def _sampled() -> Iterator[list[Counter[Stack]]]:
    """While it is open, each stack seen is counted into what stands in the list."""
    into: list[Counter[Stack]] = []

    def note(_: int, frame: FrameType | None) -> None:
        for stacks in into:
            stacks[_stack(frame)] += 1

    usual = signal.signal(signal.SIGPROF, note)
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    try:
        yield into
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, usual)


def _stack(frame: FrameType | None) -> Stack:
    frames = []
    while frame and frame.f_globals["__name__"] != __name__:
        frames.append((frame.f_globals["__name__"], frame.f_code.co_qualname))
        frame = frame.f_back
    return tuple(reversed(frames))


def _package(module: str) -> str:
    return module.partition(".")[0]


def _path(module: str) -> str:
    """As a file of this app."""
    return f"{module.partition('.')[2].replace('.', '/')}.py"
