"""What strikes a delivery, when it comes again, and in which phase it was struck."""

from collections.abc import Callable
from enum import Enum

from idempotency.policies import Leased, Policy
from tests.crashes.child import BEFORE_ACK
from tests.crashes.course import Course, Point


class Fault(Enum):
    """What happens at a point."""

    EXCEPTION = "an exception"
    SIGKILL = "SIGKILL"
    BACKEND = "backend terminated"
    CUT = "connection cut"
    FROZEN = "frozen past its lease"

    def can_strike(self, point: Point) -> bool:
        """An error between two deliveries is nobody's of ours."""
        return not (self is Fault.EXCEPTION and point.name == BEFORE_ACK)

    def strike(self, course: Course) -> None:
        """Let it happen to the delivery that is held; it goes on, if it can."""
        STRIKES[self](course)


STRIKES: dict[Fault, Callable[[Course], None]] = {
    Fault.EXCEPTION: Course.interrupt,
    Fault.SIGKILL: Course.kill,
    Fault.BACKEND: Course.lose_backend,
    Fault.CUT: Course.lose_connection,
    Fault.FROZEN: Course.wake,  # it was stopped before, and time has passed
}


class Again(Enum):
    """When the message is delivered again."""

    AT_ONCE = "at once"
    AFTER_LEASE = "after the lease"
    CONCURRENTLY = "concurrently"


class Phase(Enum):
    """How far a delivery is, as a reader of the page knows it."""

    BEFORE_BODY = "before the body"
    BEFORE_CLAIM = "before the claim is committed"
    CLAIMED = "after the claim, before the body"
    UNMARKED = "in the body, before the mark is committed"
    IN_BODY = "in the body"
    BEFORE_EFFECT = "in the body, before the effect"
    AFTER_EFFECT = "in the body, after the effect"
    UNSETTLED = "after the body, before COMMIT is done"
    SETTLED = "after COMMIT, before the acknowledgement"


def phase(points: list[Point], policy: Policy) -> Phase:
    """The phase in which a delivery is that has come to the last of these points."""
    names = [point.name for point in points]
    if "before end_leftovers" in names or "before commit_with_record" in names:
        return Phase.SETTLED if _is_settled(names) else Phase.UNSETTLED
    if not isinstance(policy, Leased):
        return Phase.IN_BODY if "before the effect" in names else Phase.BEFORE_BODY
    if "after the effect" in names:
        return Phase.AFTER_EFFECT
    if "before the effect" in names:
        is_marked = not policy.marks_effect or _committed_after("after begin_effect", names)
        return Phase.BEFORE_EFFECT if is_marked else Phase.UNMARKED
    return Phase.CLAIMED if "after the claim" in names else Phase.BEFORE_CLAIM


def _is_settled(names: list[str]) -> bool:
    if "before succeed" in names:
        return "after UPDATE idempotency_record" in names[names.index("before succeed") :]
    return "after INSERT idempotency_record and COMMIT" in names


def _committed_after(step: str, names: list[str]) -> bool:
    return step in names and "after COMMIT" in names[names.index(step) :]
