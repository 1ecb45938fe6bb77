"""The contract of a storage: every durable step is one method, so that a test can fail each."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db import IntegrityError, InterfaceError, connections, transaction
from django.db.models import Case, F, Q, When
from django.db.models.functions import Now
from django.utils.timezone import get_default_timezone, is_naive, make_aware

from idempotency.attempts import owner
from idempotency.exceptions import BodyCommitted, InsideTransaction, ManualCommit, NotCommitted
from idempotency.keys import Digest, Key
from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage
from idempotency.policies import TRANSACTIONAL
from idempotency.querysets import Claim, RecordQuerySet, after
from idempotency.states import State
from idempotency.storage.rows import Entry, Look, Seen, described

logger = logging.getLogger("idempotency")

#: What an error names when they are not there.
TABLES = tuple(
    model._meta.db_table for model in (IdempotencyRecord, IdempotencyEvent, ParkedMessage)
)


class Storage(ABC):
    """Records behind one database alias, on Django's connection of the thread that makes this."""

    #: Whether another connection may write while a transaction of ours is open.
    has_other_writers = True

    def __init__(self, using: str) -> None:
        self.using = using
        self.connection: Any = connections[using]

    @cached_property
    def records(self) -> RecordQuerySet:
        return IdempotencyRecord.objects.using(self.using)

    def in_utc(self, at: datetime) -> datetime:
        """An instant of a column. Without USE_TZ it is naive, in the zone of the connection."""
        return (make_aware(at, get_default_timezone()) if is_naive(at) else at).astimezone(UTC)

    # -- transactions ------------------------------------------------------------------------

    @property
    def in_test_case(self) -> bool:
        """Inside Django's own ``TestCase`` wrapper, which never commits."""
        blocks = self.connection.atomic_blocks
        return bool(blocks and blocks[-1]._from_testcase)

    def refuse_foreign_transaction(self) -> None:
        """Raise unless a transaction begun now is the outermost one and commits by itself.

        Raises:
            InsideTransaction: A transaction is open that is not ours.
            ManualCommit: The connection is in manual commit mode.
        """
        connection = self.connection
        if self.in_test_case:
            return
        if connection.autocommit and not connection.in_atomic_block:
            self._forget_lost_connection()
        if not connection.in_atomic_block and not self._commits_by_itself():
            raise ManualCommit(
                f"The connection {self.using!r} is in manual commit mode (AUTOCOMMIT is False), so "
                "nothing would be committed here. Switch autocommit on."
            )
        if connection.in_atomic_block or not self.is_idle():
            raise InsideTransaction(
                f"A transaction is open on {self.using!r} already, so record and effect would be "
                "committed or lost with it. Call this outside of atomic() (for a view under "
                "ATOMIC_REQUESTS: @transaction.non_atomic_requests)."
            )

    def _commits_by_itself(self) -> bool:
        connection = self.connection
        if connection.connection is None:
            return bool(connection.get_autocommit())  # which opens it
        return bool(connection.autocommit)

    def _forget_lost_connection(self) -> None:
        """Somebody has met its loss, and went on. Nothing is open on it any more, and it would
        look as if something were."""
        raw = self.connection.connection
        if raw is not None and self.is_broken(raw):
            self.connection.close()

    @contextmanager
    def transaction(self, *, joined: bool = False) -> Iterator[None]:
        """A transaction of our own, or a savepoint in the one that is ours already.

        Whatever strikes, and wherever, the connection is left without an open transaction of
        which Django does not know: else later writes of other code would vanish in it.
        """
        outermost = not joined and not self.in_test_case
        try:
            with transaction.atomic(using=self.using, durable=not joined):
                yield
        finally:
            if outermost:
                self._discard_unless_idle()

    @contextmanager
    def transaction_on(self, key_hash: UUID) -> Iterator[Look]:
        """A transaction of our own that begins with a look at the record of a key. If the lock is
        not ours, somebody runs it in a transaction, whatever the record says.

        Raises:
            InsideTransaction: A transaction is open that is not ours.
            ManualCommit: The connection is in manual commit mode.
        """
        self.refuse_foreign_transaction()
        with self.transaction(joined=self.in_test_case):
            key = Key("", (Digest(key_hash, None),))
            yield self.lock_and_look(key, read_committed=not self.in_test_case)

    @contextmanager
    def one_message(self) -> Iterator[None]:
        """A message outside of a transaction, which commits by itself. Whatever strikes, no
        connection is left that still waits for its reply."""
        try:
            yield
        finally:
            if not self.in_test_case:
                self._discard_unless_idle()

    def end_leftovers(self) -> None:
        """Make an end of a transaction that a leased body left open: what is settled inside it
        would be seen by nobody."""
        if not self.in_test_case and self._discard_unless_idle():
            logger.error("A body left a transaction open. It is rolled back.")

    @contextmanager
    def survivable(self) -> Iterator[None]:
        """A leased body, whose errors the database can be told of afterwards. Inside a ``TestCase``
        an error of the database makes the transaction of the whole test unusable: then the rows
        of the body are rolled back, which where it commits would stay."""
        if not self.in_test_case:
            yield
            return
        self.outlasts_the_body()
        try:
            yield
        except BaseException:
            if self.connection.needs_rollback or self._is_aborted():
                self.connection.needs_rollback = False
                self.connection.savepoint_rollback(self._savepoint)
            raise

    def outlasts_the_body(self) -> None:
        """Inside a ``TestCase``: what was written until now is not rolled back with the body."""
        if self.in_test_case:
            # Django 6.1 renames transaction.savepoint()
            self._savepoint = self.connection.savepoint()

    def _discard_unless_idle(self) -> bool:
        connection = self.connection
        if connection.connection is None:
            is_clean = not connection.in_atomic_block
        else:
            is_clean = not connection.in_atomic_block and connection.autocommit and self.is_idle()
        if not is_clean:
            # Closing inside a block would only mark it.
            connection.in_atomic_block = False
            connection.closed_in_transaction = False
            self._disconnect()
        # What Django's connect() resets too, but only later.
        connection.atomic_blocks, connection.savepoint_ids = [], []
        return not is_clean

    def _disconnect(self) -> None:
        self.connection.close()

    def refuse_uncommittable(self, raw: Any) -> None:
        """Raise unless the transaction begun on the connection ``raw`` can still be committed.

        Raises:
            InterfaceError: The connection was lost.
            NotCommitted: The body left it in a state that cannot be committed.
            BodyCommitted: The body ended it.
        """
        connection = self.connection
        if self.is_broken(raw):
            raise InterfaceError("The connection was lost in the body, which swallowed the error.")
        if connection.closed_in_transaction or connection.connection is not raw:
            raise NotCommitted(
                "The body closed the database connection, and with it our transaction: nothing of "
                "it was committed. Do not call connection.close() or close_old_connections() there."
            )
        if connection.autocommit or self._has_ended():
            raise BodyCommitted(
                "The body ended our transaction by itself, so a part of its effect may stand "
                "without a record. Do not commit or switch autocommit in a transactional body."
            )
        if self._is_aborted():
            raise NotCommitted(
                "A database error happened in the body and was swallowed: the server refuses to "
                "commit this transaction. Wrap what may fail in its own atomic()."
            )
        if connection.needs_rollback:
            raise NotCommitted(
                "The body left its transaction marked for rollback: an atomic block inside it "
                "failed without a savepoint, or set_rollback(True) was called."
            )

    # -- what differs between vendors --------------------------------------------------------

    @abstractmethod
    def is_idle(self) -> bool:
        """Whether no transaction is open on the server, and the next statement opens none.

        Opens the connection.
        """

    @abstractmethod
    def is_broken(self, raw: Any) -> bool:
        """Whether the server can no longer be reached by the connection ``raw``."""

    @abstractmethod
    def is_transient(self, error: BaseException, raw: Any) -> bool:
        """Whether the transaction on the connection ``raw`` was lost through no fault of the
        body, so that it can be tried again. ``raw`` is None when there was no connection yet."""

    @abstractmethod
    def is_lock_timeout(self, error: BaseException) -> bool:
        """Whether a statement waited too long for a lock: no failure of the job."""

    @abstractmethod
    def is_record_changed(self, error: BaseException) -> bool:
        """Whether our own key's constraint refused the record: somebody was faster."""

    @abstractmethod
    def is_body_committed(self, error: BaseException) -> bool:
        """Whether the record was refused because the transaction is not the one of the look."""

    def unmigrated(self, error: BaseException) -> str | None:
        """What to say of an error that means that our tables are not there; None of another."""
        if not self._is_table_missing(error):
            return None
        return (
            f"A table of the app idempotency is missing in the database {self.using!r}, so nothing "
            f"was run. Make it: manage.py migrate idempotency --database {self.using}"
        )

    @abstractmethod
    def _is_table_missing(self, error: BaseException) -> bool:
        """Whether a statement was refused because a table of ours is not there."""

    @abstractmethod
    def _has_ended(self) -> bool:
        """Whether the transaction that Django takes for open is not."""

    @abstractmethod
    def _is_aborted(self) -> bool:
        """Whether an error has made COMMIT impossible."""

    @abstractmethod
    def lock_and_look(
        self, key: Key, *, read_committed: bool = False, flushed: bool = False
    ) -> Look:
        """Try the key's lock, then read its record; inside a transaction, and at its beginning if
        anything more is asked of it.

        Args:
            read_committed: Let every statement of it see what was committed before the statement.
            flushed: Let its COMMIT return only when it is on disk.
        """

    @abstractmethod
    def peek(self, key: Key) -> Look:
        """Whether the key's lock could be had just now, and its record; outside a transaction."""

    @abstractmethod
    def commit_with_record(self, entry: Entry, look: Look, *, result: str | None) -> None:
        """Insert the record of a success and commit it with all that the body did."""

    @abstractmethod
    def add_record(self, entry: Entry, look: Look, *, result: str | None) -> None:
        """Insert the record of a success into a transaction that somebody else of us commits."""

    @abstractmethod
    def flush_at_commit(self) -> None:
        """Let this transaction's COMMIT return only when it is on disk."""

    @abstractmethod
    def stand_back(self, patience: timedelta) -> None:
        """At the beginning of a transaction that can be done again: let it see what was committed
        before each statement, wait no longer than this for a lock, and not for the disk."""

    @abstractmethod
    def wait_at_most(self, duration: timedelta) -> None:
        """Let no statement of this transaction wait longer for a lock."""

    # -- transactional: a failure ------------------------------------------------------------

    @contextmanager
    def _brief(self) -> Iterator[None]:
        """A transaction that waits for no lock longer than a second: a COMMIT of the same attempt
        that does not end may hold the record."""
        with self.transaction(joined=self.in_test_case):
            if not self.in_test_case:
                self.wait_at_most(timedelta(seconds=1))
            yield

    def note_failure(self, entry: Entry, key_hash: UUID, error: BaseException) -> bool:
        """Note that an attempt failed and was rolled back: over a failed record, or over none.

        Returns whether it was noted. A record in any other state is left as it is.
        """
        failed = self.records.filter(key_hash=key_hash, state=State.FAILED, exhausted_at=None)
        columns = (
            entry.columns(key_hash)
            | described(error)
            | {
                "settled_at": Now(),
                "expires_at": after(entry.retention),
            }
        )
        # What was rolled back has done nothing. An effect of a claim before it goes on being judged
        # by the policy of that claim, unless the key is as good as new.
        is_new = Q(expires_at__lte=Now())
        kept = {
            name: Case(When(is_new, then=None), default=F(name))
            for name in ("effect_begun_at", "repeat_until", "deaths")
        }
        policy = Case(When(is_new | Q(effect_begun_at=None), then=None), default=F("policy"))
        with self._brief():
            if failed.update(attempt=F("attempt") + 1, policy=policy, **kept, **columns):
                return True
            new = IdempotencyRecord(key_hash=key_hash, state=State.FAILED, attempt=1, **columns)
            try:
                with transaction.atomic(using=self.using):
                    new.save(using=self.using, force_insert=True)
            except IntegrityError as refused:
                if not self.is_record_changed(refused):
                    raise
                return False
        return True

    def note_start(self, entry: Entry, claim: Claim, seen: Seen | None) -> bool:
        """Note, before the body, that a redelivered message starts it: a death leaves the note.

        Returns False when somebody was faster.
        """
        if seen is not None:
            return self.take_over(entry, claim, seen, policy=TRANSACTIONAL, begins=False)
        self._insert_claim(entry, claim, policy=TRANSACTIONAL, begins=False)
        return True

    def exhaust(self, entry: Entry, seen: Seen) -> bool:
        """Let no delivery claim the key any more. Returns False when somebody was faster."""
        return self.records.exhaust(seen, retention=entry.retention)

    # -- leased ------------------------------------------------------------------------------

    def claim(
        self,
        entry: Entry,
        claim: Claim,
        *,
        policy: str,
        begins: bool,
        window: timedelta | None = None,
    ) -> Look:
        """Claim a key that has no record, if its lock is free, and commit that to disk; outside of
        a transaction.

        Args:
            policy: By which the effect is judged that begins under the claim.
            begins: Whether the effect begins with the claim.
            window: How long the provider knows a repeat; None for ever.

        Returns what is there now: this very claim, or what it was not made for.
        """
        with self.transaction(joined=self.in_test_case):
            look = self.lock_and_look(entry.key, read_committed=not self.in_test_case, flushed=True)
            if look.seen is not None or not look.locked:
                return look
            self._insert_claim(entry, claim, policy=policy, begins=begins, window=window)
            return self.peek(entry.key)

    def take_over(
        self,
        entry: Entry,
        claim: Claim,
        seen: Seen,
        *,
        policy: str,
        begins: bool,
        window: timedelta | None = None,
    ) -> bool:
        """Claim a key whose record was seen to be claimable; inside the transaction of the look.

        The arguments are those of ``claim()``. Returns False when somebody was faster.
        """
        columns = self._claimed(entry, claim, policy=policy, begins=begins, window=window)
        if seen.effect_begun and not seen.is_forgotten:
            # The provider counts from the first time it saw the key, and so do we.
            columns |= {
                "effect_begun_at": F("effect_begun_at"),
                "repeat_until": F("repeat_until"),
                # Until this claim has an effect of its own, it is that one's policy.
                "policy": policy if begins else F("policy"),
            }
        return self.records.take_over(seen, claim, **columns)

    def _insert_claim(self, entry: Entry, claim: Claim, **declared: Any) -> None:
        self.records.create(
            key_hash=claim.key_hash,
            state=State.RUNNING,
            attempt=1,
            claim_id=claim.id,
            claimed_at=Now(),
            lease_expires_at=after(claim.lease),
            expires_at=after(claim.retention),
            **self._claimed(entry, claim, **declared),
        )

    def _claimed(
        self,
        entry: Entry,
        claim: Claim,
        *,
        policy: str,
        begins: bool,
        window: timedelta | None = None,
    ) -> dict[str, Any]:
        """The columns that tell what a claim is for."""
        return entry.columns(claim.key_hash) | {
            "policy": policy,
            "owner": owner(),
            "effect_begun_at": Now() if begins else None,
            "repeat_until": None if window is None else after(window - claim.lease),
        }

    def begin_effect(self, claim: Claim, *, policy: str) -> bool:
        """Mark the beginning of the effect, on disk; inside a transaction."""
        self.flush_at_commit()
        return self.records.begin_effect(claim, policy=policy)

    def renew(self, claim: Claim) -> bool:
        """Renew the lease."""
        return self.records.renew(claim)

    def succeed(self, claim: Claim, *, result: str | None) -> bool:
        """Settle the claim: the effect happened. One statement, in a transaction or outside of
        one. False says only that the claim is not held: see ``has_ended()``."""
        return self.records.succeed(claim, result=result)

    def hold(self, claim: Claim) -> None:
        """Lock the claim's row in this transaction: a heartbeat that wrote it meanwhile would make
        its settlement fail under REPEATABLE READ."""
        self.records.claimed_by(claim).select_for_update(no_key=True).first()

    def has_ended(self, claim: Claim, state: State) -> bool:
        """Whether this very claim ended like this: the reply to its settlement may have been lost.

        Inside a transaction; locking the row waits for a backend that may still be committing.
        """
        own = self.records.claimed_by(claim).select_for_update()
        return state in list(own.values_list("state", flat=True))

    def fail(self, claim: Claim, error: BaseException, *, repeats: bool) -> bool:
        """Settle the claim: it may be claimed again.

        Args:
            repeats: Whether the next claim repeats an effect which may have happened.
        """
        return self.records.fail(claim, repeats=repeats, **described(error))

    def fail_briefly(self, claim: Claim, error: BaseException, *, repeats: bool) -> bool:
        """``fail()``, in a transaction of its own that does not wait for long."""
        with self._brief():
            return self.fail(claim, error, repeats=repeats)

    def leave_in_doubt(self, claim: Claim, error: BaseException) -> bool:
        """Settle the claim: nobody can tell."""
        return self.records.leave_in_doubt(claim, **described(error))

    def doubt(self, seen: Seen) -> bool:
        """Put a claim in doubt that ended without settling, or whose effect nobody may repeat."""
        return self.records.as_seen(seen).put_in_doubt()

    def resolve_own_doubt(self, claim: Claim, *, happened: bool, result: str | None = None) -> bool:
        """End the doubt that this very claim was taken for: its attempt has come back, and knows.

        Inside a transaction. Returns whether there was one.
        """
        doubt = self.records.in_doubt(claim.key_hash, claim.id)
        if happened:
            return doubt.resolve_as_happened(result=result, claim_id=claim.id)
        return doubt.resolve_as_not_happened()
