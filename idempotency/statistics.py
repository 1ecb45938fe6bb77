"""How often does a duplicate really happen?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Min, Q
from django.db.models.functions import Now

from idempotency.conf import conf
from idempotency.events import PER_MINUTE
from idempotency.models import IdempotencyEvent, IdempotencyRecord, Kind
from idempotency.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What was delivered to one scope within a period, as far as it left a trace.

    Attributes:
        scope: What the keys are unique within: usually one task.
        deliveries: Runs that succeeded, runs that failed, and duplicates. A message that found
            its key busy is counted once, when it is answered or runs.
        duplicates: Of these, how many came after the success and were answered with its result.
        redelivered: Of the duplicates, how many the broker said it had delivered before. The
            others were published twice, or come from a broker that never says so.
        is_lower_bound: Whether one key had so many duplicates or failures that not each of them
            may have been written down: then there were at least so many.
    """

    scope: str
    deliveries: int
    duplicates: int
    redelivered: int
    is_lower_bound: bool

    @property
    def one_in(self) -> float | None:
        """One in so many deliveries was a duplicate; None when none was."""
        return self.deliveries / self.duplicates if self.duplicates else None


def redelivery_rates(*, since: timedelta | datetime, using: str | None = None) -> list[Rate]:
    """How often a duplicate came, for each scope that had a delivery, by scope.

    Not seen, so that the true number is larger: a first delivery that died without a trace (the
    one after it looks like the first), a duplicate inside of another call's transaction, and a
    duplicate outside of Celery that was refused because its key was busy.

    Args:
        since: The beginning of the period, or its length until now. Shorter than the retention:
            purged records are not counted, and their duplicates are.
        using: Database alias. Default: the setting ``DATABASE``.
    """
    using = using or conf().DATABASE
    begin = Now() - since if isinstance(since, timedelta) else since
    succeeded = (
        IdempotencyRecord.objects.using(using)
        .filter(state=State.SUCCEEDED, settled_at__gte=begin)
        .order_by()
    )
    told = (
        IdempotencyEvent.objects.using(using)
        .filter(kind__in=[Kind.DUPLICATE, Kind.FAILED], at__gte=begin)
        .order_by()
    )
    successes = dict(succeeded.values_list("scope").annotate(Count("id")))
    counts = {
        scope: numbers
        for scope, *numbers in told.values_list("scope").annotate(
            Count("id"),
            duplicates=Count("id", filter=Q(kind=Kind.DUPLICATE)),
            redelivered=Count("id", filter=Q(kind=Kind.DUPLICATE, redelivered=True)),
        )
    }
    sampled = _sampled(told)
    rates = []
    for scope in sorted(successes.keys() | counts.keys()):
        events, duplicates, redelivered = counts.get(scope, (0, 0, 0))
        rates.append(
            Rate(
                scope=scope,
                deliveries=successes.get(scope, 0) + events,
                duplicates=duplicates,
                redelivered=redelivered,
                is_lower_bound=scope in sampled,
            )
        )
    return rates


def _sampled(told: Any) -> set[str]:
    """Scopes with a key that may have reached the limit of what is written of it in a minute."""
    # By the hash alone, so that the database need not sort: a key has one scope.
    keys = told.values("key_hash", "kind").annotate(number=Count("id"), its_scope=Min("scope"))
    return set(keys.filter(number__gte=PER_MINUTE).values_list("its_scope", flat=True))
