"""What an operator can do to records, and what the page says of it before it is done."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from idempotency.admin.forms import ForceForm, ReasonForm, ResultForm
from idempotency.conf import conf
from idempotency.exceptions import (
    ClaimAlive,
    NotInDoubt,
    NotRunning,
    NotSettled,
)
from idempotency.maintenance import forgotten, purge_chosen
from idempotency.models import IdempotencyRecord
from idempotency.policies import Verdict
from idempotency.querysets import RecordQuerySet
from idempotency.resolution import allow_again, release, resolve
from idempotency.states import State

logger = logging.getLogger("idempotency")


class NotForgottenError(Exception):
    """A purge would not delete it."""


#: Why a record that was fit when it was shown is not fit any more.
SKIPPED: dict[type[Exception], Any] = {
    NotInDoubt: _("changed meanwhile, or held: not in doubt any more, or another doubt"),
    NotSettled: _("changed meanwhile: not as it was shown"),
    NotForgottenError: _("changed meanwhile: not forgotten any more, or waited for"),
    NotRunning: _("changed meanwhile: not running any more, or under another claim"),
    ClaimAlive: _("the lease is alive, or somebody holds the key"),
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A record as the page showed it, and whether its lease was alive then."""

    record: IdempotencyRecord
    is_live: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a record.

    Attributes:
        error: Why it was not done; None if it was.
        is_free: Whether its messages wait no more.
        has_history: Whether the history of the record has it too.
    """

    record: IdempotencyRecord
    error: Exception | None = None
    is_free: bool = False
    has_history: bool = True


class Operation(ABC):
    """One thing to do to records."""

    #: In addresses, and of the action in the list.
    name: str
    permission: str
    label: str | Promise
    #: What will happen, in words, and what the provider is told.
    says: str | Promise
    provider_key: str | Promise
    #: Of what is left out, in the list.
    unfit: str | Promise
    #: Whether the body runs afterwards: then somebody has to deliver a message.
    runs = True
    form: type[ReasonForm] = ReasonForm

    @abstractmethod
    def fitting(self, records: RecordQuerySet) -> RecordQuerySet:
        """Those that it can be done to."""

    def doubts(self, records: RecordQuerySet) -> RecordQuerySet:
        """Those that are in doubt afterwards, so that their messages go on waiting."""
        return records.none()

    def live(self, records: RecordQuerySet) -> RecordQuerySet:
        """Those under a lease that is alive: it takes force."""
        return records.none()

    def settle_all(self, shown: list[Shown], *, by: str, **data: Any) -> Iterator[Outcome]:
        """Do it to each: one that is broken does not stop the rest."""
        for each in shown:
            record = each.record
            try:
                is_free = self.settle(record, is_live=each.is_live, by=by, **data)
            except tuple(SKIPPED) as refused:
                yield Outcome(record, refused)
            except Exception as error:
                logger.exception("%s of key %s failed.", self.name, record.key_hash.hex)
                yield Outcome(record, error)
            else:
                yield Outcome(record, is_free=is_free)

    @abstractmethod
    def settle(self, seen: IdempotencyRecord, *, is_live: bool, by: str, **data: Any) -> bool:
        """Do it to a record as it was seen. Returns whether its messages wait no more.

        Raises:
            IdempotencyError, NotForgottenError: The record is not fit any more, and was not
                changed.
        """


class _Resolve(Operation):
    permission = "resolve"
    unfit = _("not in doubt")

    def fitting(self, records: RecordQuerySet) -> RecordQuerySet:
        return records.resolvable() | records.doubtful()

    @abstractmethod
    def verdict(self, **data: Any) -> Verdict:
        """What the operator said has become of the effect."""

    def settle(self, seen: IdempotencyRecord, *, is_live: bool, by: str, **data: Any) -> bool:
        resolve(
            seen.key_hash,
            self.verdict(**data),
            reason=data["reason"],
            by=by,
            claim_id=seen.claim_id,
            publish=False,
        )
        return True


class ItHappened(_Resolve):
    name = "it_happened"
    label = _("It happened")
    says = _(
        "The doubt ends: the effect happened. The body does not run again, and every later "
        "delivery is answered with the result that you give here."
    )
    provider_key = _("Nothing is sent to the provider.")
    runs = False
    form = ResultForm

    def verdict(self, **data: Any) -> Verdict:
        return Verdict.happened(data["result"])


class ItDidNotHappen(_Resolve):
    name = "it_did_not_happen"
    label = _("It did not happen")
    says = _("The doubt ends: the effect did not happen. The next delivery runs the body.")
    provider_key = _(
        "The next attempt sends the same provider key as the last one: a provider that knows it "
        "after all takes the attempt for a repeat."
    )

    def verdict(self, **data: Any) -> Verdict:
        return Verdict.did_not_happen()


class AllowAgain(Operation):
    name = "allow_again"
    permission = "allow_again"
    label = _("Allow again")
    says = _(
        "The record is reopened. The next delivery runs the body once more, whatever it did "
        "before: what has succeeded happens twice."
    )
    provider_key = _("The next attempt has a new provider key: to the provider it is a new effect.")
    unfit = _("neither succeeded nor failed")

    def fitting(self, records: RecordQuerySet) -> RecordQuerySet:
        return records.settled()

    def settle(self, seen: IdempotencyRecord, *, is_live: bool, by: str, **data: Any) -> bool:
        allow_again(seen.key_hash, reason=data["reason"], by=by, seen=seen, publish=False)
        return True


class Release(Operation):
    name = "release"
    permission = "release"
    label = _("Release a dead claim")
    says = _(
        "The claim is taken away from its attempt, which can settle nothing any more. If its "
        "effect had begun and nobody may repeat it, the record is in doubt; else the next "
        "delivery runs the body."
    )
    provider_key = _("The next attempt sends the same provider key as this one.")
    unfit = _("not running")
    form = ForceForm

    def fitting(self, records: RecordQuerySet) -> RecordQuerySet:
        return records.running()

    def doubts(self, records: RecordQuerySet) -> RecordQuerySet:
        return records.unrepeatable()

    def live(self, records: RecordQuerySet) -> RecordQuerySet:
        return records.leased()

    def settle(self, seen: IdempotencyRecord, *, is_live: bool, by: str, **data: Any) -> bool:
        released = release(
            seen.key_hash,
            reason=data["reason"],
            by=by,
            claim_id=seen.claim_id,
            # Of a claim that was shown as lapsed, a lease that is alive is a sign of life.
            force=is_live and data["force"],
            publish=False,
        )
        return released.state != State.IN_DOUBT


class Purge(Operation):
    name = "purge"
    permission = "purge"
    label = _("Purge")
    says = _(
        "The record is deleted. Only what a purge deletes too: settled, past its retention, not "
        "exhausted, and waited for by no message."
    )
    provider_key = _("To the next delivery such a key is new already: nothing changes for it.")
    unfit = _("not forgotten yet, or waited for")
    runs = False

    def fitting(self, records: RecordQuerySet) -> RecordQuerySet:
        return records.filter(pk__in=forgotten(conf().DATABASE).values("pk"))

    def settle(self, seen: IdempotencyRecord, *, is_live: bool, by: str, **data: Any) -> bool:
        if not purge_chosen([seen.pk], reason=data["reason"], by=by):
            raise NotForgottenError
        return False


OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (ItHappened(), ItDidNotHappen(), AllowAgain(), Release(), Purge())
}
