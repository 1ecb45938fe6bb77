"""Fixtures that start real workers and processes, and that end them whatever happens."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core import mail
from django.db import connection

from idempotency import jobs, signals
from idempotency.logs import LEVELS
from idempotency.states import TRANSITIONS
from tests.harness.gates import Gates
from tests.harness.processes import Call
from tests.harness.proxy import Proxy

if TYPE_CHECKING:
    from tests.harness.workers import Queue, Worker

LOGS = pytest.StashKey[list[Path]]()


LEGAL = ", ".join(
    f"('{before}', '{after}')" for before, states in TRANSITIONS.items() for after in states
)
GUARD = f"""
CREATE OR REPLACE FUNCTION refuse_illegal_transitions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state IS DISTINCT FROM OLD.state AND (coalesce(OLD.state, 'None'), NEW.state)
       NOT IN ({LEGAL}) THEN
        RAISE EXCEPTION 'Illegal transition from % to %', OLD.state, NEW.state;
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER refuse_illegal_transitions BEFORE INSERT OR UPDATE ON idempotency_record
    FOR EACH ROW EXECUTE FUNCTION refuse_illegal_transitions();
"""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Every test, and every process that it starts, is held to the table of transitions."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(GUARD)


@pytest.fixture(autouse=True)
def _unit_tests_use_no_database(request: pytest.FixtureRequest) -> None:
    # pytest-django lets no test reach the database that does not ask for it.
    asks = {"db", "transactional_db", "live_server"} & set(request.fixturenames)
    asks |= {"django_db"} & {mark.name for mark in request.node.iter_markers()}
    if asks and "unit" in request.path.relative_to(Path(__file__).parent).parts:
        pytest.fail(f"A unit test uses no database ({', '.join(asks)}): move it to execution/.")


@pytest.fixture(autouse=True)
def _no_job_of_another_test_on_shards(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a job makes each database one that may hold records; a test may reach but its own."""
    if "shards" not in request.path.relative_to(Path(__file__).parent).parts:
        for scope, job in list(jobs.jobs.items()):
            if callable(job.using):
                monkeypatch.delitem(jobs.jobs, scope)


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    """The gates of the processes that this test starts."""
    return Gates(tmp_path)


@pytest.fixture
def proxy(transactional_db: None) -> Iterator[Proxy]:
    """A proxy to the database of this test."""
    with Proxy() as proxy:
        yield proxy


@pytest.fixture
def queue() -> Queue:
    """A queue for this test alone."""
    from tests.harness.workers import Queue  # `make bare` has no Celery

    return Queue(f"test-{uuid.uuid4().hex}")


@pytest.fixture
def worker(
    request: pytest.FixtureRequest, transactional_db: None, queue: Queue, gates: Gates
) -> Iterator[Callable[..., Worker]]:
    """Start a worker on the test's queue: ``worker(concurrency=2)``; see `Worker`."""
    from tests.harness.workers import Worker  # `make bare` has no Celery

    workers: list[Worker] = []

    def start(**options: Any) -> Worker:
        log = gates.directory / f"worker{len(workers)}.log"
        request.node.stash.setdefault(LOGS, []).append(log)
        workers.append(Worker(queue.name, gates, log=log, **options))
        return workers[-1]

    yield start
    for process in workers:
        process.kill()


@pytest.fixture
def call(
    request: pytest.FixtureRequest, transactional_db: None, gates: Gates
) -> Iterator[Callable[..., Call]]:
    """Call a function in another process: ``call("module:function", argument=1)``; see `Call`."""
    calls: list[Call] = []

    def start(function: str, environment: dict[str, str] | None = None, **arguments: Any) -> Call:
        log = gates.directory / f"call{len(calls)}.log"
        request.node.stash.setdefault(LOGS, []).append(log)
        environment = {**gates.environment, **(environment or {})}
        calls.append(Call(function, log=log, environment=environment, **arguments))
        return calls[-1]

    yield start
    for process in calls:
        process.kill()


@pytest.fixture
def gathering(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As outside of tests: duplicates and deferrals are written a moment later, by a thread."""
    from idempotency import events  # it needs the app

    monkeypatch.delattr(mail, "outbox")
    yield
    events.write_at_end()
    events._gathered.begin_anew()


@pytest.fixture
def told() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The signals, in order: (name, arguments)."""
    heard: list[tuple[str, dict[str, Any]]] = []
    receivers = {}
    for name in LEVELS:

        def receive(signal: Any, sender: Any, name: str = name, **about: Any) -> None:
            assert sender.__name__ == "IdempotencyRecord"
            assert about.keys() == signals.Told.__annotations__.keys()
            heard.append((name, about))

        receivers[name] = receive
        getattr(signals, name).connect(receive)
    yield heard
    for name, receive in receivers.items():
        getattr(signals, name).disconnect(receive)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes of a failed test have said."""
    report = yield
    if report.failed:
        for log in item.stash.get(LOGS, []):
            report.sections.append((log.name, log.read_text()[-8000:]))
    return report
