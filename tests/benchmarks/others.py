"""The others, each doing the same job: Django's ``atomic()`` around one INSERT."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context

from django.db import connection

from tests.benchmarks import adapters
from tests.benchmarks.adapters import Call
from tests.benchmarks.rounds import NUMBERS
from tests.benchmarks.subjects import first, leased, one_statement, redelivered
from tests.harness.waiting import wait_until
from tests.jobs.models import Effect

ONE_COMMIT, TWO_SYSTEMS, TWO_COMMITS = "one commit", "two systems", "two commits"
LOCK = "no record: a lock, for sending"
REPEATED = "runs again after its lease"


@dataclass(frozen=True)
class Other:
    """How one of them is measured, and what it promises.

    Attributes:
        package: The distribution, or "" for what comes with Django.
        together: Whether effect and record can part.
        killed: What becomes of a job that is killed between the two.
        answers: What a duplicate gets.
        measures_effect: Whether it writes the same row as all the others.
        is_killed: Whether its "cannot part" is tried before it is measured. This app's is a matter
            of its own tests, and DBOS has threads that a fork would lose.
        python: The oldest that it can be installed under.
    """

    name: str
    package: str
    together: str
    killed: str
    answers: str
    build: Callable[[], tuple[Call, Call]]
    measures_effect: bool = True
    is_killed: bool = False
    python: tuple[int, int] = (3, 11)


def others(cache: str, durable: str) -> list[Other]:
    """All of them; the URL of a Redis that forgets in a crash, and of one that does not."""
    stored = "the stored result"
    return [
        Other("this app, Transactional", "", ONE_COMMIT, "cannot part", stored,
              lambda: (first, first)),
        Other("this app, a redelivered message", "", ONE_COMMIT, "cannot part", stored,
              lambda: (redelivered, redelivered)),
        Other("this app, Leased", "", "claim, then effect, then settlement",
              "in doubt, as declared", stored, lambda: (leased, leased)),
        Other("a unique constraint on the effect", "", ONE_COMMIT, "cannot part", "nothing",
              adapters.constraint, measures_effect=False),
        Other("`get_or_create` and `save` in `atomic()`", "", ONE_COMMIT, "cannot part", stored,
              adapters.naive, is_killed=True),
        Other("django-reliable-outbox, inbox", "django-reliable-outbox", ONE_COMMIT, "cannot part",
              "nothing: it is skipped", adapters.inbox, is_killed=True, python=(3, 12)),
        Other("justonce, Django store in `atomic()`", "justonce", ONE_COMMIT, "cannot part", stored,
              adapters.justonce, is_killed=True),
        Other("idemkit on PostgreSQL", "idemkit", TWO_COMMITS, REPEATED, stored,
              adapters.idemkit_postgresql),
        Other("idemkit on Valkey", "idemkit", f"{TWO_SYSTEMS}; forgets in a crash", REPEATED,
              stored, lambda: adapters.idemkit_redis(cache)),
        Other("idemkit on Valkey, each write to disk", "idemkit", TWO_SYSTEMS, REPEATED, stored,
              lambda: adapters.idemkit_redis(durable)),
        Other("Powertools on Valkey", "aws-lambda-powertools",
              f"{TWO_SYSTEMS}; forgets in a crash", REPEATED, stored,
              lambda: adapters.powertools(cache)),
        Other("Powertools on Valkey, each write to disk", "aws-lambda-powertools", TWO_SYSTEMS,
              REPEATED, stored, lambda: adapters.powertools(durable)),
        Other("celery-once, lock and unlock", "celery-once", LOCK, "runs again, by redelivery",
              "refused while it is held", lambda: adapters.celery_once(cache)),
        Other("celery-singleton, lock and unlock", "celery-singleton", LOCK,
              "runs again, by redelivery", "the id of who holds it",
              lambda: adapters.celery_singleton(cache)),
        Other("DBOS, a workflow of one transaction", "dbos", f"{ONE_COMMIT}, of the step",
              "goes on after its last step", stored, adapters.dbos),
    ]  # fmt: skip


def does_it_once(first: Call, again: Call) -> None:
    """Whether the adapter does what is said of it, before it is measured.

    Raises:
        AssertionError: It ran never, or twice.
    """
    before = Effect.objects.count()
    first(0)
    again(0)
    assert Effect.objects.count() == before + 1, "the job was not done once"


def cannot_part(first: Call, again: Call) -> None:
    """Kill a process when the effect is written and before the record is committed.

    Raises:
        AssertionError: The effect has outlived the process, or the next delivery has not done it.
    """
    order = next(NUMBERS)
    effects = Effect.objects.filter(key=f"order {order}")
    assert not effects.exists(), "the key is not new"
    connection.close()  # not to be shared with the child
    child = get_context("fork").Process(target=_die, args=(first, order))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL, f"it was not killed: {child.exitcode}"
    wait_until(lambda: not _open_transactions(), "the transaction of the dead to be rolled back")
    assert not effects.exists(), "the effect has outlived its record"
    again(order)
    assert effects.count() == 1, "the job was lost"


def _die(call: Call, order: int) -> None:
    def die(order: int) -> None:
        one_statement(order)
        os.kill(os.getpid(), signal.SIGKILL)

    adapters.one_statement = die
    call(order)


def _open_transactions() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
        )
        [number] = cursor.fetchone()
    return number
