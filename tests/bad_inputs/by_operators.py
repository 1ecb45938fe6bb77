"""What an operator is refused."""

from uuid import UUID

from django.core.management import CommandError
from django.db import DataError

from idempotency import Verdict, execute, parking
from idempotency.exceptions import (
    ClaimAlive,
    NotInDoubt,
    NotRunning,
    NotSettled,
    ResultNotStorable,
)
from idempotency.models import IdempotencyRecord, Reason
from idempotency.resolution import allow_again, release, resolve
from tests.bad_inputs.case import HOLD, SCOPE, Moment, Refused, manage, within
from tests.execution.bodies import effect

KEY = ("7", "--scope", SCOPE)
REASON = ("--reason", "asked for")


def after(prepare, act):
    def acted():
        prepare()
        return act()

    return acted


def doubt():
    def body():
        effect()
        raise TimeoutError

    try:
        execute(body, key=7, scope=SCOPE, policy=HOLD)
    except TimeoutError:
        return


def parked(message):
    """A message waits for a doubt, which nobody here can publish."""

    def act():
        doubt()
        key_hash = IdempotencyRecord.objects.get().key_hash
        parking.park("default", key_hash, Reason.IN_DOUBT, task_id="4f1c", message=message)
        broker, parking.broker = parking.broker, None
        try:
            resolve(key_hash, Verdict.did_not_happen(), reason="seen")
        finally:
            parking.broker = broker

    return act


def of_the_record(act):
    return lambda: act(IdempotencyRecord.objects.get().key_hash)


def leased(body):
    execute(body, key=7, scope=SCOPE, policy=HOLD)


OPERATORS = Moment(
    title="By an operator",
    text="Nothing is changed; in the last two rows the doubt has ended. "
    "A command ends with status 1, or with 2 when its options do not fit.",
    cases=(
        Refused(
            given="a key that is not there",
            act=manage("show", "7", "--scope", SCOPE),
            error=CommandError,
            says=(
                "No record has this key in billing.charge. It never ended here, or is "
                "forgotten; a scope that was given to execute() has to be named: --scope."
            ),
        ),
        Refused(
            given="an alias that is not there, to a command",
            act=manage("purge", "--database", "nowhere"),
            error=CommandError,
            says="There is no database alias 'nowhere'. Known are: …",
        ),
        Refused(
            given="an age to a purge: only what is forgotten is deleted, and nothing that lives",
            act=manage("purge", "--older-than", "0"),
            error=CommandError,
            says="Error: unrecognized arguments: --older-than 0",
            do="Set `RETENTION`, or `retention=`, before the records are made.",
        ),
        Refused(
            given="an empty reason",
            act=manage("resolve", "7", "--happened", "--reason", " "),
            error=CommandError,
            says=(
                "Error: argument --reason: it is empty: say why, for those who read the events "
                "later."
            ),
        ),
        Refused(
            given="a result of what did not happen",
            act=after(
                doubt,
                manage("resolve", *KEY, "--did-not-happen", "--result", "1", *REASON),
            ),
            error=CommandError,
            says="What did not happen has no --result. Nothing was changed.",
            leaves=("in_doubt",),
            effects=1,
        ),
        Refused(
            given="a result that is no JSON",
            act=after(doubt, manage("resolve", *KEY, "--happened", "--result", "ch_1", *REASON)),
            error=CommandError,
            says=(
                "--result is no JSON: Expecting value: line 1 column 1 (char 0). Nothing was "
                "changed."
            ),
            leaves=("in_doubt",),
            effects=1,
        ),
        Refused(
            given="no hours to count",
            act=manage("stats", "--hours", "0"),
            error=CommandError,
            says="Error: argument --hours: give a number above 0 and up to 876000, not '0'.",
        ),
        Refused(
            given="a resolution without a doubt",
            act=lambda: resolve(UUID(int=7), Verdict.happened(), reason="seen"),
            error=NotInDoubt,
            says="The key … is not in doubt: there is no record of it. Nothing was changed.",
            do="Look for the record: `idempotency_show`.",
        ),
        Refused(
            given="a resolution of what a live lease holds",
            act=within(
                leased, of_the_record(lambda key: resolve(key, Verdict.happened(), reason="seen"))
            ),
            error=NotInDoubt,
            says=(
                "The key … is not in doubt: attempt 1 on … is running under a lease, until … at"
                " least. Nothing was changed."
            ),
            do="Wait: its worker may still tell. A lease that has run out can be resolved.",
            leaves=("succeeded",),
        ),
        Refused(
            given="a resolution that knows nothing",
            act=after(
                doubt, of_the_record(lambda key: resolve(key, Verdict.unknown(), reason="seen"))
            ),
            error=ValueError,
            says="Verdict.unknown() ends no doubt. Nothing was changed.",
            do="Find out first. Nothing runs until then.",
            leaves=("in_doubt",),
            effects=1,
        ),
        Refused(
            given="a resolution with a result that cannot be stored",
            act=after(
                doubt, of_the_record(lambda key: resolve(key, Verdict.happened({1}), reason="seen"))
            ),
            error=ResultNotStorable,
            says="the result is of type set and cannot be stored; convert it to a sorted list.",
            leaves=("in_doubt",),
            effects=1,
        ),
        Refused(
            given="a doubt that is to run again",
            act=after(doubt, of_the_record(lambda key: allow_again(key, reason="asked for"))),
            error=NotSettled,
            says="The key … cannot be allowed again: its record is in doubt. Nothing was changed.",
            do="Resolve it: it happened, or it did not.",
            leaves=("in_doubt",),
            effects=1,
        ),
        Refused(
            given="a release of what does not run",
            act=after(doubt, of_the_record(lambda key: release(key, reason="gone"))),
            error=NotRunning,
            says=(
                "The key … is not running under this claim: its record is in doubt. Nothing was "
                "changed."
            ),
            do="Resolve it: it happened, or it did not.",
            leaves=("in_doubt",),
            effects=1,
        ),
        Refused(
            given="a release of a claim whose lease is alive",
            act=within(leased, of_the_record(lambda key: release(key, reason="gone"))),
            error=ClaimAlive,
            says=(
                "The claim on key … is not known to be dead: attempt 1 on … is running under a "
                "lease, until … at least. Nothing was changed. Wait until it has ended, or force "
                "it if you know that its process is dead."
            ),
            leaves=("succeeded",),
        ),
        Refused(
            given="a NUL in the reason",
            act=after(
                doubt, of_the_record(lambda key: resolve(key, Verdict.happened(), reason="a\0"))
            ),
            error=DataError,
            says="PostgreSQL text fields cannot contain NUL (0x00) bytes",
            do="Leave it out. (The words are the database's.)",
            leaves=("in_doubt",),
            effects=1,
        ),
        Refused(
            given="a parked message that nothing here can publish",
            act=parked("{}"),
            error=None,
            says="A parked message of key … is not published yet.",
            do="The log says why. `idempotency_sweep` tries again.",
            leaves=("failed",),
            effects=1,
        ),
        Refused(
            given="a parked message that was not kept",
            act=parked(None),
            error=None,
            says="Message 4f1c of key … was not kept: send it again yourself.",
            leaves=("failed",),
            effects=1,
        ),
    ),
)
