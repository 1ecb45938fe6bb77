"""The state machine in SQL: one guarded UPDATE per transition, and the filters for reading."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID, uuid4

from django.db.models import (
    Case,
    DateTimeField,
    DurationField,
    ExpressionWrapper,
    F,
    Q,
    QuerySet,
    When,
)
from django.db.models.functions import Coalesce, Now

from idempotency.policies import ASK, OnDoubt
from idempotency.states import State

if TYPE_CHECKING:
    Base = QuerySet[Any]
else:
    Base = QuerySet


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim on a key. ``id`` is the fencing token: random, and checked by every write."""

    id: UUID
    key_hash: UUID
    retention: timedelta
    lease: timedelta


def after(duration: timedelta) -> Any:
    """``duration`` from now, by the database's clock."""
    return ExpressionWrapper(Now() + duration, output_field=DateTimeField())


def time_since(column: str) -> Any:
    """How long ago that was, by the database's clock."""
    return ExpressionWrapper(Now() - F(column), output_field=DurationField())


def same_retention() -> Any:
    """The retention that the claim was made with, counted from now."""
    return ExpressionWrapper(
        Now() + (F("expires_at") - F("claimed_at")), output_field=DateTimeField()
    )


class RecordQuerySet(Base):
    """Each transition says by its return value whether it happened."""

    def with_clock(self) -> Self:
        """Each with ``seen_at``: when it was read, by the clock that decides leases and expiry."""
        return self.annotate(seen_at=Now())

    def claimed_by(self, claim: Claim) -> Self:
        """The row, if nobody has claimed it since."""
        return self.filter(key_hash=claim.key_hash, claim_id=claim.id)

    def held_by(self, claim: Claim) -> Self:
        """The row, if this attempt still holds the claim."""
        return self.claimed_by(claim).filter(state=State.RUNNING)

    def leased(self) -> Self:
        """Running under a lease that has not run out."""
        return self.filter(state=State.RUNNING, lease_expires_at__gt=Now())

    def lapsed(self) -> Self:
        """Running, but the lease has run out."""
        return self.filter(state=State.RUNNING, lease_expires_at__lte=Now())

    def as_seen(self, seen: Any) -> Self:
        """The row, if nobody has claimed, settled or renewed it since it was seen."""
        return self.filter(
            key_hash=seen.key_hash,
            state=seen.state,
            attempt=seen.attempt,
            expires_at=seen.expires_at,
        ).filter(
            Q(lease_expires_at=seen.lease_expires_at)
            if seen.lease_expires_at
            else Q(lease_expires_at=None)
        )

    def unchanged_since(self, seen: Any) -> Self:
        """The row, if nobody has claimed, settled or reopened it since somebody saw it who then
        decides about it. A renewed lease is no change.

        What has failed can become exhausted, or a doubt that ends as a failure again, under the
        same claim: the one sets ``exhausted_at``, the other clears ``effect_begun_at``.
        """
        return self.filter(
            pk=seen.pk,
            state=seen.state,
            attempt=seen.attempt,
            generation=seen.generation,
            claim_id=seen.claim_id,
            effect_begun_at__isnull=seen.effect_begun_at is None,
            exhausted_at__isnull=seen.exhausted_at is None,
        )

    def resolvable(self) -> Self:
        """In doubt, or silently ended after the effect began, which is a doubt that nobody has
        found yet."""
        silent = Q(state=State.RUNNING, lease_expires_at__lte=Now(), effect_begun_at__isnull=False)
        return self.filter(Q(state=State.IN_DOUBT) | silent)

    def settled(self) -> Self:
        """Succeeded or failed, exhausted ones among them."""
        return self.filter(state__in=[State.SUCCEEDED, State.FAILED])

    def unrepeatable(self) -> Self:
        """An effect has begun that nobody may repeat."""
        provider_knows = Q(policy=OnDoubt.RETRY.value) & (
            Q(repeat_until=None) | Q(repeat_until__gt=Now())
        )
        return self.filter(~provider_knows, effect_begun_at__isnull=False)

    def doubtful(self) -> Self:
        """Ended without settling, or failed, after an effect that nobody may repeat."""
        ended = Q(state=State.RUNNING, lease_expires_at__lte=Now()) | Q(state=State.FAILED)
        return self.unrepeatable().filter(ended, exhausted_at=None)

    def running(self) -> Self:
        """Claimed, whether the lease is alive or not."""
        return self.filter(state=State.RUNNING)

    def purgeable(self) -> Self:
        """Settled, and forgotten; what waits for an operator stays."""
        return self.filter(
            state__in=[State.SUCCEEDED, State.FAILED], exhausted_at=None, expires_at__lte=Now()
        )

    def exhausted(self) -> Self:
        """No delivery claims it until it is allowed again."""
        return self.filter(exhausted_at__isnull=False)

    def askable(self) -> Self:
        """In doubt, and long enough for the provider to know what became of it."""
        return self.filter(state=State.IN_DOUBT, policy=ASK).filter(
            Q(lease_expires_at=None) | Q(lease_expires_at__lte=Now())
        )

    def put_in_doubt(self) -> bool:
        """Nobody can tell about its effect, or nobody may repeat it. A lapsed claim is a death."""
        died = Case(When(state=State.RUNNING, then=1), default=0)
        changed = self.update(
            state=State.IN_DOUBT, settled_at=None, deaths=Coalesce(F("deaths"), 0) + died
        )
        return changed == 1

    def exhaust(self, seen: Any, *, retention: timedelta) -> bool:
        """Too many attempts have died: no delivery claims it any more."""
        changed = self.as_seen(seen).update(
            state=State.FAILED,
            exhausted_at=Now(),
            deaths=seen.deaths,
            settled_at=Now(),
            lease_expires_at=None,
            expires_at=after(retention),
        )
        return changed == 1

    def succeed_over(self, seen: Any, *, own: bool, begun_at: Any, **columns: Any) -> bool:
        """A transaction over a failed or forgotten record, or over its own start note, commits."""
        changed = self.as_seen(seen).update(
            state=State.SUCCEEDED,
            attempt=seen.attempt + (not own),
            claimed_at=begun_at,
            claim_id=None,
            policy=None,
            owner=None,
            error_class=None,
            error_message=None,
            effect_begun_at=None,
            lease_expires_at=None,
            repeat_until=None,
            exhausted_at=None,
            **columns,
        )
        return changed == 1

    def take_over(self, seen: Any, claim: Claim, **columns: Any) -> bool:
        """Claim a record that was seen to be claimable."""
        changed = self.as_seen(seen).update(
            state=State.RUNNING,
            attempt=F("attempt") + 1,
            claim_id=claim.id,
            claimed_at=Now(),
            lease_expires_at=after(claim.lease),
            expires_at=after(claim.retention),
            settled_at=None,
            result=None,
            error_class=None,
            error_message=None,
            exhausted_at=None,
            deaths=None if seen.is_forgotten else seen.deaths or None,
            **columns,
        )
        return changed == 1

    def begin_effect(self, claim: Claim, *, policy: str) -> bool:
        """From here on a death is a doubt. Not possible once the lease has run out, nor for the
        repeat of an effect that the provider does not know any more.

        It renews the lease: who has seen it run out, and waits for this row, has to look again.
        """
        held = self.held_by(claim).leased()
        known = held.filter(
            Q(effect_begun_at=None) | Q(repeat_until=None) | Q(repeat_until__gt=Now())
        )
        changed = known.update(
            effect_begun_at=Now(), lease_expires_at=after(claim.lease), policy=policy
        )
        return changed == 1

    def renew(self, claim: Claim) -> bool:
        """Push the end of the lease away from now."""
        return self.held_by(claim).update(lease_expires_at=after(claim.lease)) == 1

    def succeed(self, claim: Claim, *, result: str | None) -> bool:
        """The effect happened; ``result`` answers every duplicate."""
        changed = self.held_by(claim).update(
            state=State.SUCCEEDED,
            result=result,
            settled_at=Now(),
            lease_expires_at=None,
            expires_at=after(claim.retention),
        )
        return changed == 1

    def fail(self, claim: Claim, *, repeats: bool, error_class: str, error_message: str) -> bool:
        """There was no effect, or the provider knows a repeat: a later delivery may claim."""
        changed = self.held_by(claim).update(
            state=State.FAILED,
            error_class=error_class,
            error_message=error_message,
            effect_begun_at=F("effect_begun_at") if repeats else None,
            # What may be repeated is of no other policy, whatever claim has taken it over.
            policy=OnDoubt.RETRY.value if repeats else F("policy"),
            settled_at=Now(),
            lease_expires_at=None,
            expires_at=after(claim.retention),
        )
        return changed == 1

    def leave_in_doubt(self, claim: Claim, *, error_class: str, error_message: str) -> bool:
        """The effect may or may not have happened, and this attempt cannot tell."""
        changed = self.held_by(claim).update(
            state=State.IN_DOUBT,
            error_class=error_class,
            error_message=error_message,
            # A sign of life, since which a provider may be at work.
            lease_expires_at=after(claim.lease),
        )
        return changed == 1

    def in_doubt(self, key_hash: UUID, claim_id: UUID | None) -> Self:
        """The record in doubt: left by this claim, or by any when it is None."""
        doubt = self.filter(key_hash=key_hash, state=State.IN_DOUBT)
        return doubt if claim_id is None else doubt.filter(claim_id=claim_id)

    def resolve_as_happened(self, *, result: str | None, claim_id: UUID) -> bool:
        """End the doubt: the effect happened. The claim is who says so; by it, an attempt knows
        its own settlement from somebody else's."""
        changed = self.update(
            state=State.SUCCEEDED,
            claim_id=claim_id,
            result=result,
            settled_at=Now(),
            lease_expires_at=None,
            expires_at=same_retention(),
        )
        return changed == 1

    def resolve_as_not_happened(self) -> bool:
        """End the doubt: the effect did not happen, so the next delivery may claim."""
        changed = self.update(
            state=State.FAILED,
            effect_begun_at=None,
            settled_at=Now(),
            lease_expires_at=None,
            expires_at=same_retention(),
        )
        return changed == 1

    def release(self, *, in_doubt: bool) -> bool:
        """Void the claim: its new fencing token is nobody's. It counts as a death."""
        columns: dict[str, Any] = {"state": State.IN_DOUBT}
        if not in_doubt:
            columns = {
                "state": State.FAILED,
                "settled_at": Now(),
                "lease_expires_at": None,
                "expires_at": same_retention(),
            }
        changed = self.filter(state=State.RUNNING).update(
            claim_id=uuid4(), deaths=Coalesce(F("deaths"), 0) + 1, **columns
        )
        return changed == 1

    def allow_again(self, key_hash: UUID) -> bool:
        """Reopen a settled record: a new generation, which owes nothing to the one before."""
        changed = (
            self.settled()
            .filter(key_hash=key_hash)
            .update(
                state=State.FAILED,
                generation=F("generation") + 1,
                policy=None,
                fingerprint=None,
                result=None,
                error_class=None,
                error_message=None,
                effect_begun_at=None,
                repeat_until=None,
                deaths=None,
                exhausted_at=None,
                settled_at=Now(),
                expires_at=ExpressionWrapper(
                    Now() + (F("expires_at") - F("settled_at")), output_field=DateTimeField()
                ),
            )
        )
        return changed == 1
