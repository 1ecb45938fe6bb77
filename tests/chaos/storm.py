"""The phases of a storm: blow, calm down, settle the doubts."""

import logging
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from django.core.management import call_command
from django.db import DatabaseError, InterfaceError, connection

from idempotency.contrib.celery_tasks import purge, sweep
from idempotency.models import IdempotencyRecord
from idempotency.states import State
from notifications.demo.screen import Screen
from tests.chaos.deck import PER_KILL
from tests.chaos.faults import Faults
from tests.chaos.outside import Outside
from tests.chaos.progress import Progress
from tests.chaos.publisher import Publisher
from tests.chaos.settlement import settle
from tests.chaos.stage import WORKERS, CannotRun, Stage
from tests.jobs.models import Effect

TICK = 0.05
START_SECONDS = 120
#: Seconds from one to the next. A delivery shall find most lapsed claims before the sweeper does.
CHORES = {sweep: 15, purge: 5}
SECONDS_BETWEEN_LOOKS = 2
#: Without a line in the journal while it blows; a broker on a busy machine is away for a while.
STUCK_SECONDS = 240
#: Seconds without a line in the journal after which nothing more is to come.
QUIET = 1.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measure:
    """How long a storm blows: until all that is given is reached.

    Attributes:
        seconds: Of publishing; 0 when it is bounded by the deliveries alone.
        deliveries: At least so many; 0 when it is bounded by the time alone.
        kills: So many in all, spread evenly.
    """

    seconds: float
    deliveries: int
    kills: int

    def share(self, seconds: float, deliveries: int) -> float:
        """How much of it is done, from 0 to 1."""
        shares = [seconds / self.seconds] if self.seconds else []
        shares += [deliveries / self.deliveries] if self.deliveries else []
        return min(1.0, *shares)


class Storm:
    """One storm on a stage whose servers are running.

    Attributes:
        seconds: For how long it was published.
        calm_seconds: How long it took until nothing moved, for the first time.
    """

    def __init__(
        self, state: Path, stage: Stage, outside: Outside, *, seed: int, measure: Measure
    ) -> None:
        self.stage = stage
        self.measure = measure
        self.outside = outside
        self.screen = Screen()
        self.faults = Faults(seed, stage, outside, state)
        self.journal = self.faults.journal
        self.publisher = Publisher(random.Random(seed), outside, state, self.journal.waiting)
        self.seconds = self.calm_seconds = 0.0
        self._began = self._next_look = time.monotonic()
        #: When each is due again.
        self._chores = dict.fromkeys(CHORES, self._began)
        self._effects = self._doubts = 0
        #: Copies for which was waited in vain.
        self._given_up: set[str] = set()

    def prepare(self) -> None:
        """Tables and workers."""
        call_command("migrate", run_syncdb=True, verbosity=0)
        connection.close()
        self.stage.start_workers()
        deadline = time.monotonic() + START_SECONDS
        while self.journal.ready < WORKERS:
            if time.monotonic() > deadline:
                raise CannotRun(f"The workers do not start: see {self.stage.state}.")
            self.faults.watch()
            time.sleep(TICK)

    def blow(self) -> None:
        """Publish, and let the faults strike, as long as was asked for, and until every fault that
        was drawn is ordered."""
        self._began = since = time.monotonic()
        self.publisher.start()
        share, lines = 0.0, -1
        while share < 1 or self.publisher.has_orders:
            self._step(f"{share:4.0%} blown")
            if self.journal.lines != lines:
                lines, since = self.journal.lines, time.monotonic()
            elif time.monotonic() - since > STUCK_SECONDS:
                raise CannotRun(f"For {STUCK_SECONDS} seconds nothing has happened.")
            self.seconds = time.monotonic() - self._began
            share = self.measure.share(self.seconds, self.journal.deliveries)
            self.faults.strike_due(round(share * self.measure.kills * PER_KILL), self.publisher)
        self.publisher.stop()

    def calm_down(self) -> None:
        """Wait until every copy has ended, or none has moved for so long that none will."""
        began = since = time.monotonic()
        lines, progress = -1, Progress()
        # One that is deferred again and again moves, and comes to nothing.
        while not progress.has_ended(-self.journal.succeeded, len(self.journal.outstanding)):
            self._step(f"{len(self.journal.outstanding)} to come")
            now = time.monotonic()
            if self.journal.lines != lines or self.stage.frozen:
                lines, since = self.journal.lines, now
            expected = self.journal.outstanding - self._given_up
            if now - since > (self.stage.stall if expected else QUIET):
                self._given_up |= expected
                break
        self.calm_seconds = self.calm_seconds or time.monotonic() - began
        connection.close()  # it may have been ended with the others, unseen

    def settle(self) -> None:
        """End every doubt as an operator would, until none is left."""
        progress = Progress()
        while left := settle(self.outside, self.publisher.intended):
            if progress.has_ended(left):
                return
            self.calm_down()

    def _step(self, phase: str) -> None:
        time.sleep(TICK)
        self.faults.watch()
        now = time.monotonic()
        for chore, seconds in CHORES.items():
            if now > self._chores[chore]:
                self._chores[chore] = now + seconds
                with suppress(Exception):  # there is another one in a moment
                    chore.apply_async()
        if now > self._next_look:
            self._next_look = now + SECONDS_BETWEEN_LOOKS
            self._look()
        absorbed = max(0, self.journal.succeeded - self._effects)
        self.screen.state(
            f"{self.journal.deliveries} deliveries, {self._effects} effects",
            f"{absorbed} absorbed, {self.faults.kills} kills, {self._doubts} doubts, {phase}",
        )

    def _look(self) -> None:
        try:
            self._effects = Effect.objects.count()
            self._doubts = IdempotencyRecord.objects.filter(state=State.IN_DOUBT).count()
        except (DatabaseError, InterfaceError):
            connection.close()  # it has just crashed
