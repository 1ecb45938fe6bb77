"""Ending what is left in doubt, as an operator does who reads the journals of the servers."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import astuple
from uuid import UUID

from idempotency import Verdict, maintenance
from idempotency.exceptions import NotInDoubt
from idempotency.jobs import all_jobs
from idempotency.keys import digest
from idempotency.models import IdempotencyRecord
from idempotency.policies import ASK
from idempotency.resolution import resolve
from idempotency.states import State
from tests.chaos.outside import Outside
from tests.chaos.tasks import TASKS
from tests.chaos.units import Unit


def settle(outside: Outside, intended: Iterable[Unit]) -> int:
    """Settle what can be settled now; how much there was to do, for more may follow.

    Those of ``ask`` are left to the sweeper, which asks.
    """
    swept = maintenance.sweep()
    doubts = list(IdempotencyRecord.objects.filter(state=State.IN_DOUBT))
    known = keys_by_hash(intended)
    effects = outside.effects()
    for record in doubts:
        if record.policy == ASK or record.key_hash not in known:
            continue
        promise, key = known[record.key_hash]
        happened = effects[promise][key] > 0
        verdict = Verdict.happened(key) if happened else Verdict.did_not_happen()
        with suppress(NotInDoubt):  # its own attempt may have come back meanwhile
            resolve(record.key_hash, verdict, reason="The server's journal says so.", by="a storm")
    return len(doubts) + swept.resolved + sum(astuple(swept.parked))


def keys_by_hash(intended: Iterable[Unit]) -> Mapping[UUID, tuple[str, str]]:
    """Promise and key of each record that there may be."""
    all_jobs()  # the scopes are known once the tasks are imported
    return {
        key_hash(promise, key): (promise, key)
        for unit in intended
        for promise, key in zip(unit.promises, unit.keys, strict=True)
    }


def key_hash(promise: str, key: str) -> UUID:
    """By what a record is known."""
    return digest(key, scope=f"tests.chaos.tasks.{TASKS[promise].__name__}").hashes[0]
