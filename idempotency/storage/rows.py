"""What a storage is given of a record, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from idempotency.keys import Key
from idempotency.policies import OnDoubt
from idempotency.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A record as one look saw it, judged by the database's clock."""

    key_hash: UUID
    fingerprint: UUID | None
    state: State
    attempt: int
    generation: int
    claim_id: UUID | None
    policy: str | None
    result: str | None
    #: When the transaction or the claim that last ran the body began.
    begun_at: datetime
    effect_begun_at: datetime | None
    lease_expires_at: datetime | None
    expires_at: datetime
    #: Whether the provider still knows a repeat of the effect.
    repeatable: bool
    #: Seconds until the lease runs out; 0.0 without one.
    lease_left: float
    expired: bool
    #: How many attempts have died; one that is running has, if its claim has lapsed.
    deaths: int
    #: Whether no delivery may claim it any more.
    exhausted: bool

    @property
    def effect_begun(self) -> bool:
        return self.effect_begun_at is not None

    @property
    def is_doubtful(self) -> bool:
        """Whether an effect had begun that nobody may repeat. Judged by the policy of its claim,
        not by today's code."""
        return self.effect_begun and not (self.policy == OnDoubt.RETRY.value and self.repeatable)

    @property
    def is_forgotten(self) -> bool:
        """Settled so long ago that the key is as good as new. What waits for an operator, a doubt
        or an exhausted record, is never forgotten."""
        is_settled = self.state in (State.SUCCEEDED, State.FAILED) and not self.exhausted
        return self.expired and is_settled


class Row(NamedTuple):
    """The columns that a look reads."""

    id: int
    key_hash: UUID
    fingerprint: UUID | None
    state: str
    attempt: int
    generation: int
    claim_id: UUID | None
    policy: str | None
    result: str | None
    created_at: datetime
    claimed_at: datetime | None
    effect_begun_at: datetime | None
    repeat_until: datetime | None
    lease_expires_at: datetime | None
    expires_at: datetime
    deaths: int | None
    exhausted_at: datetime | None


def seen_first(found: Iterable[Row], *, now: datetime) -> Seen:
    """Of records under the secrets of one key, the one that answers most: a failed one stands
    behind any other under an older secret. ``now`` is the database's."""
    row = min(found, key=lambda row: (row.state == State.FAILED, row.id))
    lease_left = (row.lease_expires_at or now) - now
    return Seen(
        key_hash=row.key_hash,
        fingerprint=row.fingerprint,
        state=State(row.state),
        attempt=row.attempt,
        generation=row.generation,
        claim_id=row.claim_id,
        policy=row.policy,
        result=row.result,
        begun_at=row.claimed_at or row.created_at,
        effect_begun_at=row.effect_begun_at,
        lease_expires_at=row.lease_expires_at,
        expires_at=row.expires_at,
        repeatable=row.repeat_until is None or row.repeat_until > now,
        lease_left=max(lease_left.total_seconds(), 0.0),
        expired=row.expires_at <= now,
        deaths=(row.deaths or 0) + (row.state == State.RUNNING),
        exhausted=row.exhausted_at is not None,
    )


@dataclass(frozen=True, slots=True)
class Look:
    """What the first message of an attempt saw."""

    #: ``now()`` of this transaction.
    begun_at: datetime
    #: Whether the key's lock is ours until this transaction ends.
    locked: bool
    seen: Seen | None
    #: Whether it is the start note of this very run that was seen.
    own: bool = False
    #: By which SQLite knows this transaction again; no other vendor needs it.
    savepoint: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a record says of its job, whatever becomes of it."""

    key: Key
    #: The readable form of the key, or None.
    readable: str | None
    task_id: str | None
    retention: timedelta

    def columns(self, key_hash: UUID) -> dict[str, Any]:
        """The columns by name, for the record under ``key_hash``."""
        return {
            "scope": self.key.scope,
            "key": self.readable,
            "fingerprint": self.key.fingerprint_for(key_hash),
            "task_id": self.task_id,
        }


def described(error: BaseException) -> dict[str, str]:
    """The columns that tell of an error, whatever its text: nothing here may hide the error."""
    kind = type(error)
    try:
        text = str(error)[:1000]
    except Exception:
        text = "(it has no text)"
    return {
        "error_class": f"{kind.__module__}.{kind.__qualname__}",
        "error_message": storable(text),
    }


def storable(text: str) -> str:
    """Text of others, as PostgreSQL holds it: without NUL, and without half a surrogate pair."""
    return text.replace("\0", "?").encode(errors="replace").decode()
