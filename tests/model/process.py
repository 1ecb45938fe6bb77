"""Processes: threads in which deliveries run, whose bodies do what they are told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

from django.db import connections

from idempotency import current_attempt, execution
from idempotency.calls import Call
from idempotency.testing.deaths import Death, SimulatedCrash, simulated
from idempotency.testing.watching import Watch, watched_by
from tests.model.record import Ending

#: By the name of their vendor.
ALIASES = {"postgresql": "default", "sqlite": "sqlite"}
#: Moments are counted from 1.
NEVER = 0
HOUR = timedelta(hours=1)


class Refused(Exception):
    """The provider said no."""


class Unclear(Exception):
    """The provider said nothing."""


ERRORS: Mapping[str, type[Exception]] = {"refused": Refused, "unclear": Unclear}
NAMES = {error.__name__: name for name, error in ERRORS.items()}


def name_of(error: str | None) -> str | None:
    """An error as the model calls it, from its dotted path."""
    name = error and error.rpartition(".")[2]
    return NAMES.get(name, name) if name else None


class Process:
    """A thread in which deliveries run, one after the other."""

    def __init__(self) -> None:
        self._orders: SimpleQueue[Any] = SimpleQueue()
        self._reports: SimpleQueue[Any] = SimpleQueue()
        self._death = Death(NEVER)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for alias in ALIASES.values():
            connections[alias].ensure_connection()
        for order in iter(self._orders.get, None):
            self._reports.put(order())
        connections.close_all()

    def close(self) -> None:
        self._orders.put(None)
        self._thread.join(20)

    def ask(self, order: Any) -> Any:
        """Where it stands next: in the body, at the end of the delivery, or a step further."""
        self._orders.put(order)
        return self._reports.get(timeout=60)

    def deliver(self, call: Call) -> Any:
        return self.ask(partial(self._deliver, replace(call, function=self._body)))

    def end(self, how: Callable[[], Any]) -> Any:
        return self.ask(SimpleNamespace(end=how))

    def die(self) -> Any:
        """What was open is rolled back, and nothing more is written."""

        def die() -> None:
            self._death.struck = "in its body"
            raise SimulatedCrash

        return self.end(die)

    def _deliver(self, call: Call) -> Any:
        self._death = Death(NEVER)
        try:
            with simulated(self._death) as meet, watched_by(Watch(meet)):
                return execution.run(call)
        except (SimulatedCrash, Exception) as error:
            return error

    def _body(self) -> Any:
        self._reports.put(current_attempt())
        while True:
            order = self._orders.get()
            if isinstance(order, SimpleNamespace):
                return order.end()
            try:
                said = order()
            except Exception as error:
                said = error
            self._reports.put(said)


def end_as(ending: Ending, error: Exception | None = None) -> Any:
    """The last thing that a body does."""
    if error is not None:
        raise error
    if ending.how == "returned":
        return object() if ending.result is None else json.loads(ending.result)
    raise ERRORS[ending.how]


def said_of(report: Any) -> str:
    """A report in the words of the model."""
    if isinstance(report, SimulatedCrash):
        return "died"
    if isinstance(report, Exception):
        return name_of(type(report).__name__) or ""
    if isinstance(report, execution.Outcome):
        return "replay" if report.replayed else "returned"
    return "body"
