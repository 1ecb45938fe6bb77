"""What actors do: deliver, let a lease run out, say what happened to a doubt, tidy."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db.models.functions import Now

from idempotency import Leased, OnDoubt, Verdict, current_attempt, parking
from idempotency.attempts import Delivery
from idempotency.calls import Call
from idempotency.exceptions import ClaimAlive, NotInDoubt, NotRunning, NotSettled
from idempotency.execution import run
from idempotency.maintenance import purge, sweep
from idempotency.models import IdempotencyRecord, Reason
from idempotency.policies import Doubt, Policy
from idempotency.querysets import Claim
from idempotency.resolution import allow_again, release, resolve
from idempotency.states import State
from idempotency.storage import storage_for
from tests.interleavings.actors import die, point
from tests.interleavings.situation import Scene, Sent
from tests.jobs.models import Effect

#: No heartbeat renews in the time that a schedule takes.
DAY = timedelta(days=1)


class Message(Delivery):
    """A message that can be parked, as one of Celery."""

    def __init__(self, scene: Scene, actor: int, *, redelivered: bool) -> None:
        self.scene = scene
        self.actor = actor
        self.task_id = f"message {actor}"
        self.redelivered = self.repeated = redelivered

    def park(self, using: str, key_hash: UUID, generation: int | None) -> bool:
        return parking.park(
            using,
            key_hash,
            Reason.IN_DOUBT,
            task_id=f"message {self.actor}",
            message=f"message {self.actor}",
            generation=generation,
        )


Body = Callable[[Scene, int], Any]


@dataclass(frozen=True, kw_only=True)
class Deliver:
    """A delivery of the scene's key."""

    policy: Policy | Callable[[Scene], Policy]
    body: Body
    secrets: tuple[str, ...] = ()
    redelivered: bool = False

    def __call__(self, scene: Scene, actor: int) -> Any:
        policy = self.policy(scene) if callable(self.policy) else self.policy
        call = Call(
            function=partial(self.body, scene, actor),
            key=scene.key(self.secrets),
            policy=policy,
            delivery=Message(scene, actor, redelivered=self.redelivered),
        )
        return run(call)


# -- bodies ----------------------------------------------------------------------------------


def write(scene: Scene, actor: int) -> int:
    """A row, which says whose it is."""
    Effect.objects.create(key=str(scene.number), note="row", pid=actor)
    return actor


def run_and_write(scene: Scene, actor: int) -> int:
    scene.log.append(("ran", actor))
    return write(scene, actor)


def write_and_fail(scene: Scene, actor: int) -> int:
    write(scene, actor)
    raise ValueError("the job failed")


def send(scene: Scene, actor: int) -> int:
    """An outside effect, which begins with the claim."""
    scene.log.append(("begun", actor))
    point("(the outside effect)")
    scene.log.append(("sent", actor))
    scene.outside.append(Sent(actor, current_attempt().provider_key))
    return actor


def mark_and_send(scene: Scene, actor: int) -> int:
    current_attempt().effect_begins()
    return send(scene, actor)


def send_and_hear_nothing(scene: Scene, actor: int) -> int:
    mark_and_send(scene, actor)
    raise TimeoutError("no answer")


def send_and_hear_nothing_of_it(scene: Scene, actor: int) -> int:
    send(scene, actor)
    raise TimeoutError("no answer")


def mark_send_and_die(scene: Scene, actor: int) -> None:
    mark_and_send(scene, actor)
    die()


def send_and_settle(scene: Scene, actor: int) -> int:
    send(scene, actor)
    with current_attempt().settling(actor):
        write(scene, actor)
    return actor


def mark_and_settle(scene: Scene, actor: int) -> int:
    current_attempt().effect_begins()
    return send_and_settle(scene, actor)


# -- the others ------------------------------------------------------------------------------


def let_the_lease_run_out(scene: Scene, actor: int) -> None:
    scene.lapse()


def let_the_window_close(scene: Scene, actor: int) -> None:
    """The provider forgets the key."""
    repeated = IdempotencyRecord.objects.filter(policy=OnDoubt.RETRY.value)
    repeated.update(repeat_until=Now() - DAY)


def look_and_resolve(scene: Scene, actor: int) -> None:
    """An operator: is there a doubt; what does the provider know of it; say so."""
    records = IdempotencyRecord.objects
    doubt = (records.filter(state=State.IN_DOUBT) | records.doubtful()).first()
    if doubt is None:
        return
    point("(the operator looks at the provider)")
    happened = bool(scene.outside)
    scene.log.append(("seen" if happened else "unseen", actor))
    verdict = Verdict.happened(scene.outside[0].actor) if happened else Verdict.did_not_happen()
    with suppress(NotInDoubt):
        resolve(doubt.key_hash, verdict, reason="The provider says so.", claim_id=doubt.claim_id)


def release_the_dead(scene: Scene, actor: int) -> None:
    """An operator who takes whoever holds the key for dead, if the app lets him."""
    held = IdempotencyRecord.objects.filter(state=State.RUNNING).first()
    if held is not None:
        with suppress(NotRunning, ClaimAlive):
            release(held.key_hash, reason="Its host is gone.", claim_id=held.claim_id)


def want_it_once_more(scene: Scene, actor: int) -> None:
    """An operator who reopens what has settled."""
    settled = IdempotencyRecord.objects.settled().first()
    if settled is not None:
        with suppress(NotSettled):
            allow_again(settled.key_hash, reason="Once more.", seen=settled)
            scene.log.append(("allowed", actor))


def asks(scene: Scene) -> Leased:
    """A policy that asks the provider."""

    def ask(doubt: Doubt) -> Verdict:
        point("(the provider is asked)")
        scene.log.append(("seen" if scene.outside else "unseen", -1))
        if scene.outside:
            return Verdict.happened(scene.outside[0].actor)
        return Verdict.did_not_happen()

    return Leased(on_doubt=ask, lease=DAY, marks_effect=True)


def sweep_up(scene: Scene, actor: int) -> None:
    sweep()


def purge_forgotten(scene: Scene, actor: int) -> None:
    purge()


def renew(scene: Scene, actor: int) -> bool:
    """One beat of the heart of whoever holds the key now."""
    held = IdempotencyRecord.objects.filter(state=State.RUNNING).first()
    if held is None or held.claim_id is None:
        return False
    claim = Claim(id=held.claim_id, key_hash=held.key_hash, retention=DAY, lease=DAY)
    return storage_for("default").renew(claim)
