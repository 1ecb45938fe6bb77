"""``python -m tests.chaos``: the long storm of ``make chaos``, with servers of its own.

``MINUTES`` (of publishing) or ``DELIVERIES`` bound it, ``KILLS`` worsens it, ``BROKER`` chooses
the broker and ``SEED`` blows the same storm again. The exit status is 0 if every promise was kept,
1 if not, 2 if the storm could not be blown.
"""

import logging
import os
import random
import signal
import sys
import traceback
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import django

from project import services
from tests.chaos.stage import CannotRun, Stage, kept_if

SECONDS_PER_KILL = 2.5
DELIVERIES_PER_KILL = 500
COULD_NOT_RUN = 2


@dataclass(frozen=True)
class Order:
    """What was asked for, by the environment."""

    broker: str
    seed: int
    minutes: float
    deliveries: int
    kills: int

    @classmethod
    def read(cls) -> "Order":
        """Raises ``CannotRun``, naming the variable."""
        seed = _number("SEED", random.randrange(10_000))
        deliveries = _number("DELIVERIES", 0)
        minutes = _number("MINUTES", 0 if deliveries else 2)
        kills = max(minutes * 60 / SECONDS_PER_KILL, deliveries / DELIVERIES_PER_KILL)
        kills = _number("KILLS", kills)
        if min(seed, minutes, deliveries, kills) < 0 or not minutes + deliveries:
            raise CannotRun("MINUTES, DELIVERIES, KILLS and SEED must be positive numbers.")
        broker = os.environ.get("BROKER") or "valkey"
        return cls(broker, int(seed), minutes, int(deliveries), round(kills))

    def __str__(self) -> str:
        said = f"make chaos BROKER={self.broker} SEED={self.seed} KILLS={self.kills}"
        said += f" MINUTES={self.minutes:g}" if self.minutes else ""
        return said + (f" DELIVERIES={self.deliveries}" if self.deliveries else "")


def _number(name: str, otherwise: float) -> float:
    try:
        return float(os.environ.get(name) or otherwise)
    except ValueError:
        raise CannotRun(f"{name} must be a number, not {os.environ[name]!r}.") from None


def main() -> int:
    """Blow one; returns the exit status."""
    services.end_in_order()
    try:
        return 0 if _run(Order.read()) else 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. No process and no data are left.\n")
        return 128 + signal.SIGINT
    except (CannotRun, OSError, RuntimeError) as error:
        sys.stderr.write(f"\nThe storm could not be blown: {error}\n")
        return COULD_NOT_RUN
    except Exception:  # Python's own status of it would say that a promise was broken
        traceback.print_exc()
        return COULD_NOT_RUN


def _run(order: Order) -> bool:
    kept: list[Path] = []
    with ExitStack() as stack:
        state = stack.enter_context(kept_if(lambda: bool(kept)))
        stage = Stage(state, order.broker)
        stack.callback(lambda: stage.stop(at_once=True))
        os.environ.update(stage.start())
        # The settings read these when they are first used, so what needs Django comes after.
        logging.basicConfig(filename=state / "storm.log", level=logging.WARNING)
        logging.captureWarnings(True)
        django.setup()
        from tests.chaos.play import play

        try:
            is_kept = play(state, stage, order)
        except Exception:
            kept.append(state)
            sys.stderr.write(f"\nLogs, journal and databases are kept in {state}\n")
            raise
        if not is_kept:
            kept.append(state)
    return is_kept


if __name__ == "__main__":
    sys.exit(main())
