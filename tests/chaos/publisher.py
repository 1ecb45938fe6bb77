"""Publishes units until it is told to stop, each as often as its seed says."""

import logging
import random
import threading
from collections.abc import Callable
from pathlib import Path

from tests.chaos.deck import SENDING
from tests.chaos.outside import Outside
from tests.chaos.units import FIRST, Unit, units

#: Copies that may wait in the broker: enough that no worker is idle, and few enough that a fault
#: that is ordered now strikes soon.
BACKLOG = 100
PAUSE = 0.02

logger = logging.getLogger(__name__)


class Publisher:
    """A thread that publishes; now and then several do at once.

    Attributes:
        intended: All units of which a copy was published.
    """

    def __init__(
        self, chance: random.Random, outside: Outside, state: Path, waiting: Callable[[], int]
    ) -> None:
        self.intended: list[Unit] = []
        self._orders: list[tuple[str, str]] = []
        self._chance = chance
        self._outside = outside
        self._folder = state / "orders"
        self._waiting = waiting
        self._stopped = threading.Event()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._publish_all, name="publisher", daemon=True)

    def start(self) -> None:
        self.order("freeze process body", FIRST.promises[0])
        self._thread.start()

    def stop(self) -> None:
        """No further unit; the one at hand is published as often as it shall be."""
        self._stopped.set()
        self._thread.join()

    def abandon(self) -> None:
        """Whatever it is doing: nobody waits for it any more."""
        self._abandoned.set()
        self._stopped.set()

    def order(self, fault: str, promise: str) -> None:
        """Let the next unit with this promise meet the fault."""
        self._orders.append((fault, promise))

    @property
    def has_orders(self) -> bool:
        """Whether a fault waits for a unit that it is meant for."""
        return bool(self._orders)

    def publish(self, unit: Unit) -> None:
        """One copy, for certain: it may be two when the broker's answer is lost."""
        while not self._abandoned.is_set():
            try:
                unit.signature().apply_async()
            except Exception as error:  # whatever a client says of a broker that is away
                logger.warning("%s is published again: %r", unit.name, error)
                self._abandoned.wait(0.2)
            else:
                return

    def _publish_all(self) -> None:
        for unit in units(self._chance):
            while self._waiting() > BACKLOG and not self._stopped.is_set():
                self._stopped.wait(PAUSE)
            if self._stopped.is_set():
                return
            self._obey(unit)
            self.intended.append(unit)
            self._publish_copies(unit)

    def _publish_copies(self, unit: Unit) -> None:
        if unit.at_once and unit.copies > 1:
            publishers = [
                threading.Thread(target=self.publish, args=(unit,), daemon=True)
                for _ in range(unit.copies)
            ]
            for publisher in publishers:
                publisher.start()
            for publisher in publishers:
                publisher.join()
            return
        for _ in range(unit.copies):
            self.publish(unit)

    def _obey(self, unit: Unit) -> None:
        """Order at most one fault, for the first step with a promise that one is meant for."""
        for fault, promise in self._orders:
            # A frozen holder is of interest to those who come meanwhile.
            is_fit = unit.copies >= 3 or not fault.startswith("freeze")
            if promise in unit.promises and is_fit:
                self._orders.remove((fault, promise))
                key = unit.keys[unit.promises.index(promise)]
                if fault in SENDING:
                    self._outside.order(fault, promise, key)
                else:
                    self._order_in_process(fault, key)
                return

    def _order_in_process(self, fault: str, key: str) -> None:
        what, place = fault.rsplit(" ", 1)
        order = self._folder / f"{key}@{place}"
        fresh = order.with_suffix(".new")
        fresh.write_text(what)
        fresh.rename(order)  # nobody reads half of it
