"""What is delivered: a policy, a body, and what stands before the first delivery."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from idempotency import Leased, OnDoubt, Transactional, Verdict, current_attempt, execute
from idempotency.attempts import Delivery
from idempotency.calls import Call
from idempotency.conf import conf
from idempotency.digests import digest
from idempotency.models import IdempotencyRecord, Reason
from idempotency.parking import park
from idempotency.policies import Doubt, Policy
from idempotency.states import State
from tests.jobs.models import Effect

#: Longer than any scenario takes: a lease runs out when the test says so, and only then.
LEASE = timedelta(minutes=5)


class Refused(Exception):
    """The provider says no: certainly no effect."""


@dataclass(frozen=True)
class Work:
    """One message: its key, where its effect outside goes, and whether it is delivered for the
    first time."""

    key: str
    outside: Path
    is_first: bool = True

    @property
    def published(self) -> Path:
        """Which process publishes it, once it was parked, is noted here."""
        return self.outside.with_suffix(".published")

    @property
    def records(self):
        return IdempotencyRecord.objects.filter(key_hash=hashed(self.key).hashes[0])


def hashed(key: str):
    return digest(key, scope="crashes", secrets=())


# -- bodies --------------------------------------------------------------------------------------


def row(work: Work) -> str:
    """An effect in the database."""
    Effect.objects.create(key=work.key, note="effect", pid=os.getpid())
    return "done"


def line(work: Work) -> str:
    """An effect outside, which knows nothing of us: one line, in one write."""
    with work.outside.open("a") as lines:
        lines.write(f"{current_attempt().provider_key}\n")
    return "done"


def marked_line(work: Work) -> str:
    current_attempt().effect_begins()
    return line(work)


def row_and_error(work: Work) -> str:
    row(work)
    return first_fails(work, ValueError("a fault of the job"))


def line_and_error(work: Work) -> str:
    line(work)
    return first_fails(work, TimeoutError("no answer from the provider"))


def refusal(work: Work) -> str:
    if work.is_first:
        raise Refused
    return line(work)


def line_and_settling(work: Work) -> str:
    line(work)
    with current_attempt().settling(result="done"):
        row(work)
    return "done"


def row_and_inner_row(work: Work) -> str:
    inner = execute(lambda: row(work), key=f"{work.key} inner", scope="crashes").result
    return str(inner)


def line_of_one_taken_for_dead(work: Work) -> str:
    line(work)
    if work.is_first:
        let_lapse(work)
        work.records.lapsed().put_in_doubt()
    return "done"


def first_fails(work: Work, error: Exception) -> str:
    if work.is_first:
        raise error
    return "done"


# -- what stands before --------------------------------------------------------------------------


def nothing(work: Work) -> None:
    """The message comes for the first time."""


def a_failed_record(work: Work) -> None:
    stand(work, state=State.FAILED, settled_at=Now(), error_class="ValueError")


def a_lapsed_claim(policy: str, *, begun: bool = True) -> Callable[[Work], None]:
    """Left by an attempt that was killed after its effect."""

    def claim(work: Work) -> None:
        work.outside.write_text(f"{stand_lapsed(work, policy, begun=begun).provider_key}\n")

    return claim


def too_many_deaths(work: Work) -> None:
    stand_lapsed(work, "hold", begun=False, deaths=conf().MAX_REDELIVERIES)


def stand_lapsed(work: Work, policy: str, *, begun: bool, **columns: object) -> IdempotencyRecord:
    return stand(
        work,
        state=State.RUNNING,
        policy=policy,
        claim_id=hashed("claim").hashes[0],
        claimed_at=Now(),
        effect_begun_at=Now() if begun else None,
        lease_expires_at=Now() - timedelta(seconds=1),
        **columns,
    )


def stand(work: Work, **columns: object) -> IdempotencyRecord:
    return IdempotencyRecord.objects.create(
        key_hash=hashed(work.key).hashes[0],
        scope="crashes",
        attempt=1,
        expires_at=Now() + timedelta(days=1),
        **columns,
    )


def let_lapse(work: Work) -> None:
    """Let time pass for the lease, except where a transaction is just about to end the claim."""
    with transaction.atomic():
        free = work.records.select_for_update(skip_locked=True).values("pk")
        IdempotencyRecord.objects.filter(pk__in=free, lease_expires_at__isnull=False).update(
            lease_expires_at=F("lease_expires_at") - 2 * LEASE
        )


# -- policies ------------------------------------------------------------------------------------


def transactional(work: Work) -> Policy:
    return Transactional()


def hold(work: Work) -> Policy:
    return Leased(on_doubt=OnDoubt.HOLD, lease=LEASE, no_effect_errors=(Refused,))


def hold_marked(work: Work) -> Policy:
    return Leased(on_doubt=OnDoubt.HOLD, lease=LEASE, marks_effect=True)


def retry(work: Work) -> Policy:
    return Leased(on_doubt=OnDoubt.RETRY, lease=LEASE, provider_window=timedelta(days=1))


def ask(work: Work) -> Policy:
    """The outside world is asked."""

    def look(doubt: Doubt) -> Verdict:
        return verdict_of(work)

    return Leased(on_doubt=look, lease=LEASE)


def verdict_of(work: Work) -> Verdict:
    """What anybody says of the effect who looks at the other side."""
    sent = work.outside.exists() and work.outside.read_text()
    return Verdict.happened("done") if sent else Verdict.did_not_happen()


@dataclass(frozen=True)
class Situation:
    """A job, and what stands when it is delivered."""

    name: str
    policy: Callable[[Work], Policy]
    body: Callable[[Work], str]
    before: Callable[[Work], None] = nothing
    redelivered: bool = False

    def call(self, work: Work) -> Call:
        """For ``execution.run``."""
        redelivered = self.redelivered or not work.is_first
        return Call(
            function=lambda: self.body(work),
            key=hashed(work.key),
            policy=self.policy(work),
            delivery=Message(work, redelivered=redelivered),
        )


class Message(Delivery):
    """A message of a broker: flagged when it comes again, and kept while it waits for a doubt."""

    def __init__(self, work: Work, *, redelivered: bool) -> None:
        self.task_id: str = work.key
        self.redelivered = self.repeated = redelivered
        self._text = str(work.published)

    def park(self, using, key_hash, generation):
        return park(
            using,
            key_hash,
            Reason.IN_DOUBT,
            task_id=self.task_id,
            message=self._text,
            generation=generation,
        )


class Files:
    """In place of a broker: a message is the file in which its publications are noted."""

    def publish(self, message: str) -> None:
        with Path(message).open("a") as lines:
            lines.write("published\n")


#: The five that the page tells of.
PUBLISHED = [
    Situation("Transactional", transactional, row),
    Situation("HOLD", hold, line),
    Situation("HOLD with marks_effect", hold_marked, marked_line),
    Situation("RETRY", retry, line),
    Situation("ask", ask, line),
]
#: Which come to the steps that the five do not.
OTHERS = [
    Situation("Transactional, delivered before", transactional, row, redelivered=True),
    Situation("Transactional over a failure", transactional, row, a_failed_record),
    Situation("Transactional that raises", transactional, row_and_error),
    Situation("Transactional that raises again", transactional, row_and_error, redelivered=True),
    Situation("Transactional in another", transactional, row_and_inner_row),
    Situation("HOLD that raises", hold, line_and_error),
    Situation("HOLD that is refused", hold, refusal),
    Situation("HOLD with settling", hold, line_and_settling),
    Situation("HOLD after a death", hold, line, a_lapsed_claim("hold")),
    Situation("HOLD that was taken for dead", hold, line_of_one_taken_for_dead),
    Situation("HOLD that kills", hold, line, too_many_deaths),
    Situation("RETRY that raises", retry, line_and_error),
    Situation("RETRY after a death", retry, line, a_lapsed_claim("retry")),
    Situation("ask after a death", ask, line, a_lapsed_claim("ask")),
]
SITUATIONS = {each.name: each for each in [*PUBLISHED, *OTHERS]}
