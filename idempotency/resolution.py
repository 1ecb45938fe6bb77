"""Ending a doubt, and allowing again: one way for the admin, for commands and for the sweeper."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from uuid import UUID, uuid4

from django.db import transaction

from idempotency import events, results
from idempotency.conf import conf
from idempotency.exceptions import ClaimAlive, NotInDoubt, NotRunning, NotSettled
from idempotency.models import IdempotencyRecord, Kind
from idempotency.parking import Published, publish_parked
from idempotency.policies import Ask, Doubt, Verdict
from idempotency.querysets import RecordQuerySet
from idempotency.states import State
from idempotency.storage import Look, Seen, Storage, storage_for

logger = logging.getLogger("idempotency")


def resolve(
    key_hash: UUID,
    verdict: Verdict,
    *,
    reason: str,
    by: str = "",
    using: str | None = None,
    claim_id: UUID | None = None,
    publish: bool = True,
    dry_run: bool = False,
) -> Published:
    """End the doubt about a key, then publish the messages that wait for it.

    Args:
        key_hash: Of the record in doubt, or of one whose lease ran out after its effect began, or
            that has failed and whose effect the provider does not know any more.
        verdict: ``Verdict.happened(result)``: later deliveries are answered with the result.
            ``Verdict.did_not_happen()``: the next delivery runs.
        reason: Why, for those who read the events later.
        by: Who, for the same readers.
        using: Database alias. Default: the setting ``DATABASE``.
        claim_id: The claim that the verdict is about, so that it ends no later doubt. Default:
            the one in doubt now.
        publish: Now. If not, the sweeper does it, or ``publish_parked()``.
        dry_run: Roll it back, and count what would be published.

    Raises:
        ValueError: The verdict is ``Verdict.unknown()``, which ends nothing.
        NotInDoubt: There is no doubt: the record is settled, its lease is alive, or somebody holds
            the key.
        ResultNotStorable: The verdict's result cannot be stored; nothing was changed.
        InsideTransaction: A transaction is open that is not ours; nothing was changed.
    """
    if verdict.effect_happened is None:
        raise ValueError("Verdict.unknown() ends no doubt. Nothing was changed.")
    using = using or conf().DATABASE
    text = None
    if verdict.effect_happened:
        text = results.encode(verdict.result, limit=conf().MAX_RESULT_BYTES)
    storage = storage_for(using)
    with storage.transaction_on(key_hash) as look:
        if look.locked:  # else it runs in a transaction, however long ago its lease ran out
            silent = storage.records.lapsed().filter(effect_begun_at__isnull=False)
            unseen = silent | storage.records.doubtful()
            unseen.filter(key_hash=key_hash).put_in_doubt()
        doubt = storage.records.in_doubt(key_hash, claim_id)
        if verdict.effect_happened:
            resolved = doubt.resolve_as_happened(result=text, claim_id=uuid4())
        else:
            resolved = doubt.resolve_as_not_happened()
        if not resolved:
            raise NotInDoubt(
                f"The key {key_hash.hex} is not in doubt: "
                f"{_state_of(key_hash, using, locked=not look.locked)}. Nothing was changed.",
                key=key_hash.hex,
            )
        said = "It happened" if verdict.effect_happened else "It did not happen"
        announce(Kind.RESOLVED, key_hash, f"{said}, said by {by or 'somebody'}: {reason}", using)
        if dry_run:
            transaction.set_rollback(True, using=using)
    return publish_parked(key_hash, using=using, dry_run=dry_run) if publish else Published()


@dataclass(frozen=True, slots=True)
class Released(Published):
    """What became of a claim that was released, and of the messages that waited.

    Attributes:
        state: ``in_doubt`` if its effect had begun and nobody may repeat it; they go on waiting.
            Else ``failed``: the next delivery runs.
    """

    state: str = State.FAILED


def release(
    key_hash: UUID,
    *,
    reason: str,
    by: str = "",
    using: str | None = None,
    claim_id: UUID | None = None,
    force: bool = False,
    publish: bool = True,
    dry_run: bool = False,
) -> Released:
    """Take its claim away from an attempt that is dead, then publish the messages that wait for
    it, unless it is in doubt now.

    Should the attempt live after all, it can settle nothing any more, and its
    ``effect_begins()`` raises. But its effect outside is not stopped by us, nor is a provider that
    is at work: a function that asks is called no earlier than without a release.

    Args:
        key_hash: Of a record that is running.
        reason: Why, for those who read the events later.
        by: Who, for the same readers.
        using: Database alias. Default: the setting ``DATABASE``.
        claim_id: The claim that is meant, so that no later one is released. Default: any.
        force: Also under a live lease, or while somebody holds the key.
        publish: Now. If not, the sweeper does it, or ``publish_parked()``.
        dry_run: Roll it back, and count what would be published.

    Raises:
        NotRunning: It does not run under this claim; nothing was changed.
        ClaimAlive: Its lease is alive, or somebody holds the key; nothing was changed.
        InsideTransaction: A transaction is open that is not ours; nothing was changed.
    """
    using = using or conf().DATABASE
    storage = storage_for(using)
    with storage.transaction_on(key_hash) as look:
        seen = look.seen
        if seen is None or seen.state is not State.RUNNING or claim_id not in (None, seen.claim_id):
            raise NotRunning(
                f"The key {key_hash.hex} is not running under this claim: "
                f"{_state_of(key_hash, using)}. Nothing was changed.",
                key=key_hash.hex,
            )
        if not _dead(look, seen, storage, force=force).release(in_doubt=seen.is_doubtful):
            raise ClaimAlive(
                f"The claim on key {key_hash.hex} is not known to be dead: "
                f"{_state_of(key_hash, using, locked=not look.locked)}. Nothing was changed. Wait "
                "until it has ended, or force it if you know that its process is dead.",
                key=key_hash.hex,
            )
        announce(Kind.RELEASED, key_hash, f"By {by or 'somebody'}: {reason}", using)
        if seen.is_doubtful:
            announce(
                Kind.IN_DOUBT, key_hash, "Its claim was released after the effect began.", using
            )
        if dry_run:
            transaction.set_rollback(True, using=using)
    if seen.is_doubtful:
        return Released(state=State.IN_DOUBT)
    done = publish_parked(key_hash, using=using, dry_run=dry_run) if publish else Published()
    return Released(done.published, done.waiting, done.not_kept)


def _dead(look: Look, seen: Seen, storage: Storage, *, force: bool) -> RecordQuerySet:
    """The record, if it may be released as it was seen."""
    # An effect that begins now is a sign of life, and would change what becomes of the record.
    claimed = storage.records.filter(
        key_hash=seen.key_hash,
        claim_id=seen.claim_id,
        effect_begun_at__isnull=not seen.effect_begun,
    )
    if force:
        return claimed
    # A transactional attempt has no lease while its body runs: it holds the key's lock.
    return claimed.lapsed() if look.locked else claimed.none()


def allow_again(
    key_hash: UUID,
    *,
    reason: str,
    by: str = "",
    using: str | None = None,
    seen: IdempotencyRecord | None = None,
    publish: bool = True,
    dry_run: bool = False,
) -> Published:
    """Reopen a settled record on purpose: the next delivery runs, with a new provider key. The
    messages that wait for it are published.

    Args:
        key_hash: Of a record that has succeeded or failed, or is exhausted.
        reason: Why, for those who read the events later.
        by: Who, for the same readers.
        using: Database alias. Default: the setting ``DATABASE``.
        seen: The record as it was when this was decided, so that nothing later is reopened.
            Default: as it is now.
        publish: Now. If not, the sweeper does it, or ``publish_parked()``.
        dry_run: Roll it back, and count what would be published.

    Raises:
        NotSettled: It is running, in doubt, not there, or not as it was; nothing was changed.
    """
    using = using or conf().DATABASE
    records = IdempotencyRecord.objects.using(using)
    with transaction.atomic(using=using, durable=True):
        unchanged = records.all() if seen is None else records.unchanged_since(seen)
        if not unchanged.allow_again(key_hash):
            raise NotSettled(
                f"The key {key_hash.hex} cannot be allowed again: {_state_of(key_hash, using)}. "
                "Nothing was changed.",
                key=key_hash.hex,
            )
        announce(Kind.ALLOWED_AGAIN, key_hash, f"By {by or 'somebody'}: {reason}", using)
        if dry_run:
            transaction.set_rollback(True, using=using)
    return publish_parked(key_hash, using=using, dry_run=dry_run) if publish else Published()


def announce(kind: Kind, key_hash: UUID, note: str, using: str) -> None:
    """Tell of what was done to a record from outside of an attempt, once it is committed."""
    record = IdempotencyRecord.objects.using(using).get(key_hash=key_hash)
    about = events.told(
        using=using,
        key_hash=key_hash,
        scope=record.scope,
        task_id=record.task_id,
        attempt=record.attempt,
        note=note,
    )
    events.announce_with_commit(kind, about)


def ask(function: Ask, doubt: Doubt, *, claim_id: UUID | None, using: str) -> bool:
    """Ask about a doubt, and end it by the verdict. Returns whether it has ended."""
    try:
        verdict = function(doubt)
        if not isinstance(verdict, Verdict):
            raise TypeError(f"{function!r} must return a Verdict, not {type(verdict).__name__}.")
        if verdict.effect_happened is None:
            return False
        name = getattr(function, "__qualname__", repr(function))
        resolve(
            doubt.key_hash,
            verdict,
            reason=f"{name} was asked.",
            by="the provider",
            using=using,
            claim_id=claim_id,
        )
    except NotInDoubt:
        pass  # somebody else was faster
    except Exception:
        logger.exception("Asking about key %s failed: the doubt stays.", doubt.key_hash.hex)
        return False
    return True


def _state_of(key_hash: UUID, using: str, *, locked: bool = False) -> str:
    rows = IdempotencyRecord.objects.using(using).filter(key_hash=key_hash)
    record = rows.first()
    if record is None:
        return "there is no record of it"
    if record.state == State.RUNNING:
        attempt = f"attempt {record.attempt} on {record.owner}"
        if rows.leased().exists():
            return f"{attempt} is running under a lease, until {record.lease_expires_at} at least"
        if locked:
            return f"{attempt}, or a delivery after it, holds the key at this moment"
        return f"{attempt} ended without a word, and the next delivery sees to it"
    held = ", and a delivery holds the key at this moment" if locked else ""
    return f"its record is {State(record.state).words}{held}"
