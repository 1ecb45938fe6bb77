"""One fault at one point of one delivery, and all that follows until nothing changes any more.

The oracle is what the bodies did: rows of a table, lines of a file. The record is only asked
whether it says the same.
"""

from dataclasses import dataclass, replace

from idempotency.maintenance import sweep
from idempotency.models import IdempotencyEvent, ParkedMessage
from idempotency.resolution import allow_again, resolve
from idempotency.states import State
from idempotency.testing.watching import BEFORE_EFFECT
from tests.crashes.child import answer_of
from tests.crashes.course import Course, Point
from tests.crashes.faults import Again, Fault, Phase, phase
from tests.crashes.plan import Strike
from tests.crashes.situations import (
    Situation,
    Work,
    hashed,
    let_lapse,
    line_and_settling,
    verdict_of,
)
from tests.harness.wire import Wire
from tests.jobs.models import Effect

#: Deliveries after the fault, at most, until the job has succeeded.
BOUND = 6
SUCCESS = ("ran", "replayed")
#: By these, Celery keeps the message.
COMES_AGAIN = ("AlreadyRunning", "LeaseLost", "TransactionLost")
DEAD = "is dead"


@dataclass(frozen=True)
class Observed:
    """What a reader of the page is told of one scenario."""

    #: What stands when the fault is over: of a frozen delivery, while it is frozen.
    stands: str
    #: What the delivery that was struck says, if it lives to say anything.
    says: str
    #: What the next delivery says.
    next: str
    #: What there is to see for an operator then, in the table and in the log.
    seen: str
    #: How often the effect has happened when nothing changes any more.
    effects: int = 0


class Scenario:
    """A delivery that is held at its n-th point, and struck there."""

    def __init__(self, situation: Situation, strike: Strike, work: Work) -> None:
        self.situation, self.work = situation, work
        self.number, self.fault, self.again = strike.number, strike.fault, strike.again
        #: Up to the one that is struck; None until it is reached.
        self.points: list[Point] | None = None
        self.observed: Observed | None = None

    def run(self, wire: Wire) -> None:
        """Raises AssertionError, with the story, when a promise is broken."""
        self.situation.before(self.work)
        course = Course(self.situation, self.work, wire, self.number)
        try:
            assert course.is_held(), "it ended before it came to this point"
            self.points = course.points[: self.number]
            self.observed = self._struck(course)
            self._drain()
            self.observed = replace(self.observed, effects=self._effects())
        except AssertionError as broken:
            raise AssertionError(f"{self}: {broken}") from broken
        finally:
            course.end()

    def __str__(self) -> str:
        point = self.points[-1].name if self.points else "?"
        return (
            f"{self.situation.name}, {self.fault.value} at point {self.number} ({point}), delivered"
            f" again {self.again.value}: {self.observed}, {list(self._kinds())}"
        )

    @property
    def phase(self) -> Phase:
        assert self.points is not None
        return phase(self.points, self.situation.policy(self.work))

    # -- the fault ---------------------------------------------------------------------------

    def _struck(self, course: Course) -> Observed:
        is_frozen = self.fault is Fault.FROZEN
        if is_frozen:
            course.freeze()
        answer = self._deliver() if self.again is Again.CONCURRENTLY else ""
        stands = self._stands_when_time_has_passed() if is_frozen else ""
        if is_frozen and self.again is Again.AFTER_LEASE:
            answer = self._deliver()
        self.fault.strike(course)
        course.finish()
        stands = stands or self._stands()
        says = self._said_by(course)
        return Observed(stands, says, answer or self._deliver_next(), self._seen())

    def _stands_when_time_has_passed(self) -> str:
        let_lapse(self.work)
        return self._stands()

    def _said_by(self, course: Course) -> str:
        says = course.answer or DEAD
        self._check_answer(says)
        if self.fault is Fault.EXCEPTION and self._state() is State.IN_DOUBT:
            is_kept = self._parked() or says in COMES_AGAIN or not self._has_come_to_its_body()
            assert is_kept, "a doubt, and its message is lost"
        # What it said before SIGKILL was heard by nobody.
        return DEAD if self.fault is Fault.SIGKILL else says

    def _deliver_next(self) -> str:
        if self.again is Again.AFTER_LEASE:
            let_lapse(self.work)
        return self._deliver()

    def _has_come_to_its_body(self) -> bool:
        assert self.points is not None
        return any(point.name == BEFORE_EFFECT for point in self.points)

    def _deliver(self) -> str:
        answer = answer_of(self.situation.name, replace(self.work, is_first=False))
        self._check_answer(answer)
        return answer

    def _stands(self) -> str:
        effect = "the effect" if self._effects() else "no effect"
        state = self._state()
        return f"{effect}, {state.label if state else 'no record'}"

    def _seen(self) -> str:
        state = self._state()
        kinds = [kind for kind in self._kinds() if kind != "duplicate"]
        return ", ".join([f"record: {state.label if state else 'none'}", *dict.fromkeys(kinds)])

    # -- the oracle --------------------------------------------------------------------------

    @property
    def _lines(self) -> list[str]:
        outside = self.work.outside
        return outside.read_text().splitlines() if outside.exists() else []

    @property
    def _rows(self) -> int:
        return Effect.objects.filter(key=self.work.key).count()

    def _effects(self) -> int:
        return self._rows if self.situation.policy.__name__ == "transactional" else len(self._lines)

    def _state(self) -> State | None:
        state = self.work.records.values_list("state", flat=True).first()
        return None if state is None else State(state)

    def _kinds(self) -> list[str]:
        [key_hash] = hashed(self.work.key).hashes
        events = IdempotencyEvent.objects.filter(key_hash=key_hash).order_by("id")
        return list(events.values_list("kind", flat=True))

    # -- the promise -------------------------------------------------------------------------

    def _check_answer(self, answer: str) -> None:
        """What a delivery says is true when it says so."""
        if answer in SUCCESS:
            assert self._effects(), f"{answer}, and there is no effect"
            assert self._state() is State.SUCCEEDED, f"{answer}, and the record is {self._state()}"
        elif answer == "InDoubt":
            assert self._state() is State.IN_DOUBT, f"in doubt, and the record is {self._state()}"
            assert self._parked(), "in doubt, and its message is lost"
        if answer == "ran" and self.situation.body is line_and_settling:
            assert self._rows == 1, "it has settled, and the row of its settlement is not there"
        self._check_never()

    def _check_never(self) -> None:
        """What holds at any time, whatever follows."""
        promise = self.situation.policy.__name__
        assert self._rows <= 1, f"{self._rows} rows"
        assert len(set(self._lines)) <= 1, "two provider keys"
        if promise.startswith("hold") or (promise == "ask" and self.fault is not Fault.FROZEN):
            assert len(self._lines) <= 1, f"{len(self._lines)} effects outside"

    def _drain(self) -> None:
        """Deliver until the job has succeeded; let time pass and doubts be resolved for it."""
        for _ in range(BOUND):
            answer = self._deliver()
            if answer in SUCCESS:
                break
            self._help(answer)
        else:
            raise AssertionError(f"nobody can leave this state: {self._state()}, {answer}")
        before = self._effects()
        assert self._deliver() == "replayed"
        assert self._effects() == before > 0
        if self._parked():
            sweep()
        assert not self._parked(), "a message waits for nothing"

    def _help(self, answer: str) -> None:
        """What a person would do about it, or time."""
        [key_hash] = hashed(self.work.key).hashes
        if answer == "InDoubt":
            resolve(key_hash, verdict_of(self.work), reason="looked there")
            assert self.work.published.exists(), "a parked message was not published"
        elif answer == "Exhausted":
            allow_again(key_hash, reason="mended")
        else:
            let_lapse(self.work)

    def _parked(self) -> int:
        [key_hash] = hashed(self.work.key).hashes
        return ParkedMessage.objects.filter(key_hash=key_hash).count()
