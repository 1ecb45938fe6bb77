"""A worker is killed around all that it tells the broker: publications, results, acknowledgements.

They are counted, not listed: at the first, the second, and so on, until a delivery comes to no
more. ``CRASHES=all`` kills at each; by default a deferral is killed only around its publication.
"""

import itertools

import pytest

from idempotency import Leased, OnDoubt, execute
from idempotency.exceptions import InDoubt
from idempotency.maintenance import sweep
from idempotency.models import IdempotencyRecord, ParkedMessage
from tests.crashes.broker import GATE
from tests.crashes.plan import IS_FULL
from tests.execution.bodies import Gate
from tests.harness.processes import Process
from tests.harness.waiting import wait_until
from tests.harness.workers import Worker
from tests.jobs.models import effects
from tests.jobs.tasks import leased, transactional

pytestmark = pytest.mark.django_db(transaction=True)


class Victim(Worker):
    """A worker with a gate around all that it tells the broker."""

    def __init__(self, queue, gates, *, log):
        environment = {"TEST_QUEUE": queue, "VISIBILITY_TIMEOUT": "2", **gates.environment}
        command = ["-m", "tests.crashes.broker", queue]
        Process.__init__(self, command, log=log, environment=environment)


class Killer:
    """Workers, one after another: ``aim`` before a message is sent, then ``kill``."""

    def __init__(self, queue, gates):
        self._queue, self._gates = queue, gates
        self._number = itertools.count()
        self._goal = 0

    def start(self):
        log = self._gates.directory / f"worker{next(self._number)}.log"
        self._before = len(self._gates.arrivals(GATE))
        self._worker = Victim(self._queue.name, self._gates, log=log)
        self._worker.wait_ready()

    def aim(self, number):
        """At the n-th point from now on."""
        self._goal = len(self._gates.arrivals(GATE)) + number
        self._gates.close(GATE, after=self._goal - 1)

    def kill(self, is_over):
        """Kill it at its point, and start another; False when all was over without it."""

        def is_done():
            return is_over() and self._is_between_steps()

        wait_until(lambda: self._is_there() or is_done(), "the point, or the end", seconds=60)
        if not self._is_there():
            return False
        self._worker.kill()
        self._gates.open(GATE)
        self.start()
        return True

    def _is_between_steps(self):
        """The broker has its acknowledgement a moment before the worker is behind it."""
        return (len(self._gates.arrivals(GATE)) - self._before) % 2 == 0

    def _is_there(self):
        return len(self._gates.arrivals(GATE)) >= self._goal

    def end(self):
        self._worker.kill()


@pytest.fixture
def killer(queue, gates):
    killer = Killer(queue, gates)
    try:
        killer.start()
        yield killer
    finally:
        killer.end()


def test_a_worker_killed_around_its_result_and_its_ack_leaves_one_effect(killer, queue):
    for number in itertools.count(1):
        key = f"key {number}"
        killer.aim(number)
        result = queue.send(transactional.s(key, "value"))
        was_killed = killer.kill(lambda key=key: effects(key) and not queue.length())
        assert result.get(timeout=60) == "value"
        queue.wait_empty(seconds=60)
        assert effects(key) == 1
        if not was_killed:
            break
    print(f"\na finished job: killed at {number - 1} points")
    assert number > 4, "its result and its acknowledgement, before and after each"


def held(key, gate):
    """The key is held by somebody who fails in the end."""

    def body():
        gate.pass_()
        raise ValueError

    return gate.held(lambda: execute(body, key=key, scope="tests.jobs.tasks.transactional"))


def test_a_worker_killed_around_a_deferral_loses_no_message(killer, queue, gates):
    numbers = itertools.count(1) if IS_FULL else (1, 2)
    for number in numbers:
        key, gate = f"key {number}", Gate()
        with held(key, gate):
            before = len(gates.arrivals(GATE))
            killer.aim(number)
            result = queue.send(transactional.s(key, "value"))
            gates.wait_for_arrivals(GATE, before + min(number, 2), seconds=60)
            assert effects(key) == 0
        was_killed = killer.kill(lambda key=key: effects(key) and not queue.length())
        assert result.get(timeout=60) == "value"
        queue.wait_empty(seconds=60)
        assert effects(key) == 1
        if not was_killed:
            break
    print(f"\na deferred job: killed at {number - (not was_killed)} points")
    assert number > 6 if IS_FULL else was_killed


@pytest.mark.parametrize("number", [1, 2])
def test_whoever_resolves_a_doubt_may_be_killed_around_the_publication(
    number, killer, queue, gates, call
):
    """Before it, the sweeper publishes; after it, what is published twice runs once."""
    with pytest.raises(TimeoutError):
        execute(lambda: fail(), key="key", scope="tests.jobs.tasks.leased", policy=HOLD)
    result = queue.send(leased.s("key"))
    with pytest.raises(InDoubt):
        result.get(timeout=60)
    wait_until(ParkedMessage.objects.count, "the message to be parked")
    queue.wait_empty()
    killer.aim(number)
    key_hash = IdempotencyRecord.objects.get().key_hash.hex
    resolving = call(
        "tests.crashes.broker:resolve_as_not_happened",
        environment={"TEST_QUEUE": queue.name},
        key_hash=key_hash,
    )
    wait_until(killer._is_there, "the publication", seconds=60)
    resolving.kill()
    gates.open(GATE)
    wait_until(lambda: sweep().parked.published, "the sweeper to publish what was left")
    wait_until(lambda: IdempotencyRecord.objects.get().state == "succeeded", "it", seconds=60)
    queue.wait_empty(seconds=60)
    assert (gates.directory / "outbox").read_text() == "key\n"
    assert effects("key", "settled") == 1
    assert not ParkedMessage.objects.exists()


HOLD = Leased(on_doubt=OnDoubt.HOLD)


def fail():
    raise TimeoutError
