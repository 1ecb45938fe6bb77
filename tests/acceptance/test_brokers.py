"""The same promises on every broker: redelivery after a kill, and messages that find a key busy."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from celery.result import AsyncResult

from idempotency.models import IdempotencyRecord
from idempotency.states import State
from project.celery import app
from tests.harness.brokers import BROKERS, Broker
from tests.harness.waiting import wait_until
from tests.harness.workers import kill_child
from tests.jobs.models import effects
from tests.jobs.tasks import echo, leased, next_step, transactional

# One process of pytest-xdist for each broker, so that it is started once.
pytestmark = pytest.mark.django_db(transaction=True)
EVERY = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in BROKERS]


@pytest.fixture(scope="session")
def start_broker() -> Iterator[Callable[[str], Broker]]:
    """Start a broker when it is first asked for; it runs until the last test."""
    started: dict[str, Broker] = {}
    with ExitStack() as stack:

        def start(name: str) -> Broker:
            if name not in started:
                started[name] = stack.enter_context(BROKERS[name]())
            return started[name]

        yield start


@pytest.fixture
def broker(request, transactional_db, start_broker) -> Broker:
    return start_broker(request.param)


@pytest.fixture
def workers(worker, broker):
    """Start a worker that uses the broker, and wait until it takes messages."""

    def start(**options):
        started = worker(**broker.environment, **options)
        started.wait_ready()
        return started

    return start


@pytest.fixture
def publish(call, broker, queue):
    """Publish signatures from a process of its own; their results."""

    def publish(*signatures):
        environment = broker.environment | {"TEST_QUEUE": queue.name}
        sent = call("tests.jobs.calls:publish", environment, signatures=signatures).answer()
        return [AsyncResult(each, app=app) for each in sent]

    return publish


def requests(gates):
    """What each message was like when it came."""
    log = gates.directory / "requests"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.mark.parametrize("broker", EVERY, indirect=True)
def test_a_message_whose_workers_are_killed_has_one_effect(broker, workers, publish, gates):
    gates.close("effect")
    holder = workers()
    [result] = publish(transactional.s("key", "value") | next_step.s("key"))
    kill_child(*gates.wait_for_arrivals("effect", 1))
    gates.wait_for_arrivals("effect", 2, seconds=60)
    holder.kill()
    workers()
    gates.open("effect")
    assert result.get(timeout=60) == "value"
    assert (effects("key"), effects("key", "next step")) == (1, 1)
    assert {record.state for record in IdempotencyRecord.objects.all()} == {State.SUCCEEDED}
    assert any(request["redelivered"] for request in requests(gates)) is broker.flags


@pytest.mark.parametrize("broker", EVERY, indirect=True)
def test_duplicates_of_a_running_job_wait_and_are_answered(broker, workers, publish, gates):
    gates.close("effect")
    workers(concurrency=2)
    job = transactional.s("key", "value").set(task_id="one")
    publish(job)
    gates.wait_for_arrivals("effect")
    published = len(gates.arrivals("publish-transactional"))
    others = publish(transactional.s("key", "value") | next_step.s("key"), job)
    # Each is deferred several times, and longer each time.
    gates.wait_for_arrivals("publish-transactional", published + 2 + 6, seconds=60)
    gates.open("effect")
    for result in others:
        assert result.get(timeout=60) == "value"
    assert (effects("key"), effects("key", "next step")) == (1, 1)
    assert len(gates.arrivals("effect")) == 1


@pytest.mark.parametrize("broker", EVERY, indirect=True)
def test_a_deferred_message_is_the_same_message(broker, workers, publish, gates, call):
    gates.close("effect")
    call("tests.jobs.calls:run", task="transactional", key="key")
    gates.wait_for_arrivals("effect")
    rich = transactional.s("key").set(
        retries=2,
        priority=7,
        expires=(datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        root_id="the-root",
        parent_id="the-parent",
        group_id="the-group",
        group_index=3,
        shadow="shadow",
        time_limit=90,
        soft_time_limit=80,
        headers={"mine": {"deep": [1]}},
        ignore_result=True,
        link=echo.s().set(task_id="the-callback"),
        link_error=echo.si("failed"),
        stamped_headers=["tenant"],
        tenant="seven",
        chain=[next_step.s("key").set(task_id="the-next-step")],
    )
    publish(rich)
    workers()
    first, *copies = wait_until(
        lambda: len(seen := requests(gates)) > 2 and seen, "three deliveries", seconds=60
    )
    assert (first["retries"], first["headers"]["mine"]) == (2, {"deep": [1]})
    for copy in copies:
        assert copy["headers"].pop("idempotency_deferred") > 0
        assert copy["headers"].pop("idempotency_deferred_since") > 0
        for name in [name for name in copy["headers"] if name.startswith("x-")]:
            copy["headers"].pop(name)  # RabbitMQ's own
        assert copy == first
    gates.open("effect")
    wait_until(lambda: effects("key", "next step"), "the next step", seconds=60)
    assert effects("key") == 1


VISIBLE = [each for each in EVERY if "rabbitmq" not in str(each.values[0])]


@pytest.mark.parametrize("broker", VISIBLE, indirect=True)
@pytest.mark.parametrize("task", [transactional, leased])
def test_a_job_longer_than_the_visibility_timeout_has_one_effect(
    task, broker, workers, publish, gates
):
    gates.close("effect")
    workers()
    workers()
    [result] = publish(task.s("key"))
    gates.wait_for_arrivals("effect")
    gates.wait_for_arrivals(f"delivery-{task.__name__}", 3, seconds=60)
    gates.open("effect")
    result.get(timeout=60)
    wait_until(lambda: IdempotencyRecord.objects.get().state == State.SUCCEEDED, "the record")
    assert len(gates.arrivals("effect")) == 1


@pytest.mark.parametrize("broker", [EVERY[0]], indirect=True)
def test_a_storm_of_duplicates_starves_nobody_and_does_not_grow(
    broker, workers, publish, gates, queue
):
    gates.close("effect")
    for _ in range(2):
        workers(concurrency=2)
    publish(transactional.s("long", "value"))
    gates.wait_for_arrivals("effect")
    duplicates = publish(*[transactional.s("long", "value")] * 500)
    others = publish(*[next_step.s(None, f"other-{number}") for number in range(50)])
    for result in others:
        result.get(timeout=60)
    longest = 0

    def all_deferred():
        nonlocal longest
        longest = max(longest, queue.length())
        return len(gates.arrivals("delivery-transactional")) > 1 + 500 + 200

    wait_until(all_deferred, "every duplicate to be deferred, and many twice", seconds=60)
    assert IdempotencyRecord.objects.filter(scope__endswith="transactional").count() == 0
    assert longest <= 501 + 4  # what two workers are just publishing again
    gates.open("effect")
    for result in duplicates:
        assert result.get(timeout=90) == "value"
    queue.wait_empty(seconds=60)
    assert effects("long") == 1
