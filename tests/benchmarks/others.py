"""The others, each doing the same job: Django's ``atomic()`` around one INSERT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.benchmarks import adapters
from tests.benchmarks.adapters import Call
from tests.benchmarks.subjects import first, leased
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
    """

    name: str
    package: str
    together: str
    killed: str
    answers: str
    build: Callable[[], tuple[Call, Call]]
    measures_effect: bool = True


def others(cache: str, durable: str) -> list[Other]:
    """All of them; the URL of a Redis that forgets in a crash, and of one that does not."""
    stored = "the stored result"
    return [
        Other("this app, Transactional", "", ONE_COMMIT, "cannot part", stored,
              lambda: (first, first)),
        Other("this app, flagged as redelivered", "", ONE_COMMIT, "cannot part", stored,
              adapters.redelivered),
        Other("this app, Leased", "", "claim, then effect, then settlement",
              "in doubt, as declared", stored, lambda: (leased, leased)),
        Other("a unique constraint on the effect", "", ONE_COMMIT, "cannot part", "nothing",
              adapters.constraint, measures_effect=False),
        Other("`get_or_create` and `save` in `atomic()`", "", ONE_COMMIT, "cannot part", stored,
              adapters.naive),
        Other("django-reliable-outbox, inbox", "django-reliable-outbox", ONE_COMMIT, "cannot part",
              "nothing: it is skipped", adapters.inbox),
        Other("justonce, Django store in `atomic()`", "justonce", ONE_COMMIT, "cannot part", stored,
              adapters.justonce),
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
