"""The work that goes on while a server fails, and what is left of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from celery import Task
from django.core.management import call_command
from django.db import connection

from idempotency import Verdict
from idempotency.attempts import provider_key
from idempotency.doctor import examine_database
from idempotency.models import IdempotencyRecord
from idempotency.resolution import resolve
from project.celery import app
from project.postgresql import PostgreSQL
from tests.conftest import GUARD
from tests.failover.servers import rows
from tests.harness.gates import Gates
from tests.harness.waiting import wait_until
from tests.harness.workers import Queue
from tests.jobs.tasks import leased, retried, transactional

TASKS = (transactional, leased, retried)
AGAIN = "-again"
#: How a message ends that leaves a doubt, or finds one.
DOUBTS = {"OperationalError", "InDoubt"}


def migrate() -> None:
    """Make the tables on a fresh server."""
    call_command("migrate", run_syncdb=True, verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(GUARD)


def findings() -> list[str]:
    """What the doctor finds on the server."""
    return [found.id or "" for found in examine_database("default")]


def resolve_doubts(journal: list[str]) -> int:
    """An operator ends every doubt by what he reads in the journal of the outside world."""
    doubts = IdempotencyRecord.objects.filter(state="in_doubt")
    for record in doubts:
        happened = record.task_id.removesuffix(AGAIN) in journal
        verdict = Verdict.happened("resolved") if happened else Verdict.did_not_happen()
        resolve(record.key_hash, verdict, reason="read in the journal")
    return len(doubts)


class Work:
    """Messages of each of the three policies. A key is the id of its first message, too."""

    def __init__(self, queue: Queue, gates: Gates) -> None:
        self._queue = queue
        self.outboxes = [gates.directory / "outbox"]
        #: The id of the latest message of each job.
        self.sent: dict[str, str] = {}
        self._known: dict[str, Any] = {}

    def send(self, number: int) -> None:
        """So many of each."""
        for _ in range(number):
            for task in TASKS:
                self.send_one(task)

    def send_one(self, task: Task) -> None:
        # The queue's name is of this test alone; results of others are still there.
        key = f"{task.__name__}-{self._queue.name}-{len(self.sent)}"
        self.sent[key] = self._publish(task, key, key)

    def send_again(self) -> None:
        """Every job once more, in a message of its own."""
        for key in list(self.sent):
            [task] = [each for each in TASKS if key.startswith(each.__name__)]
            self.sent[key] = self._publish(task, key, key + AGAIN)

    def _publish(self, task: Task, key: str, task_id: str) -> str:
        return str(task.apply_async((key,), queue=self._queue.name, task_id=task_id))

    def _ends(self) -> dict[str, Any]:
        """The jobs whose message has ended, and how. A success is looked up once."""
        for task_id in self.sent.values():
            if not isinstance(self._known.get(task_id), str):
                # Not an AsyncResult, which remembers a failure, too.
                meta = app.backend.get_task_meta(task_id)
                if meta["status"] in ("SUCCESS", "FAILURE"):
                    ended = "SUCCESS" if meta["status"] == "SUCCESS" else meta["result"]
                    self._known[task_id] = ended
        return {key: self._known[each] for key, each in self.sent.items() if each in self._known}

    def acknowledged(self) -> set[str]:
        """The jobs whose message is done, and whose result somebody may have been told."""
        return {key for key, end in self._ends().items() if end == "SUCCESS"}

    def wait_ended(self) -> set[str]:
        """Wait until every message has come to its end; the jobs that are in doubt."""
        wait_until(lambda: self._ends().keys() == self.sent.keys(), "every end", seconds=120)
        failed = {key: end for key, end in self._ends().items() if end != "SUCCESS"}
        assert {type(error).__name__ for error in failed.values()} <= DOUBTS, failed
        return set(failed)

    def wait_done(self) -> None:
        """Wait until every message has succeeded, those too that waited for the end of a doubt."""
        wait_until(lambda: self.acknowledged() == self.sent.keys(), "every success", seconds=120)

    def journal(self) -> list[str]:
        """What the outside world has seen, in order: keys, or provider keys."""
        lines = [path.read_text().splitlines() for path in self.outboxes if path.exists()]
        return [line for each in lines for line in each]


@dataclass(frozen=True)
class Left:
    """What a server has: rows of the bodies, and records, by key."""

    #: Of transactional bodies, and of settling blocks.
    effects: Counter[str]
    states: dict[str, str]
    #: By which the provider knows a repeat.
    provider_keys: dict[str, str]

    @classmethod
    def on(cls, server: PostgreSQL) -> Left:
        effects = Counter(key for (key,) in rows(server, "SELECT key FROM jobs_effect"))
        states, provider_keys = {}, {}
        records = "SELECT task_id, state, key_hash, generation FROM idempotency_record"
        for task_id, state, key_hash, generation in rows(server, records):
            key = task_id.removesuffix(AGAIN)
            states[key] = state
            provider_keys[key] = str(provider_key(key_hash, generation))
        return cls(effects, states, provider_keys)

    def succeeded(self, task: Task) -> set[str]:
        done = {key for key, state in self.states.items() if state == "succeeded"}
        return {key for key in done if key.startswith(task.__name__)}

    def has_effect(self, task: Task) -> set[str]:
        return {key for key in self.effects if key.startswith(task.__name__)}
