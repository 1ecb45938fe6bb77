"""A soft time limit strikes at any bytecode. It leaves no open transaction behind."""

import itertools
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection, transaction
from django.db.backends.base import base
from django.db.models.functions import Now
from psycopg import connect

from idempotency import (
    Leased,
    OnDoubt,
    Transactional,
    attempts,
    current_attempt,
    execute,
    heartbeat,
    leased,
    storage,
    transactional,
)
from idempotency.exceptions import NoAttempt
from idempotency.keys import digest
from idempotency.models import IdempotencyRecord
from idempotency.states import State
from tests.harness.processes import database_url
from tests.harness.waiting import wait_until
from tests.jobs.models import Effect, effects
from tests.jobs.tasks import effect

pytestmark = pytest.mark.django_db(transaction=True)

SHORT = timedelta(seconds=0.5)
NOTES = "SELECT note FROM jobs_effect WHERE key = %s"
LEFT_BEHIND = """
SELECT a.pid, a.state, a.query FROM pg_stat_activity a
 WHERE a.backend_type = 'client backend' AND a.datname = current_database()
   AND (starts_with(a.state, 'idle in transaction')
        OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory'))
"""


def left_behind(observer):
    """Connections of others with an open transaction or a lock of ours."""
    return observer.execute(LEFT_BEHIND).fetchall()


@pytest.mark.parametrize(
    ("place", "statement", "answer"),
    [
        ("before", "pg_try_advisory_xact_lock", ["raised", "SoftTimeLimitExceeded"]),
        ("after", "pg_try_advisory_xact_lock", ["raised", "SoftTimeLimitExceeded"]),
        # COMMIT is under way still: neither a success nor a failure, to be asked again later.
        ("before", "COMMIT", ["raised", "AlreadyRunning"]),
        ("after", "COMMIT", ["returned", None]),
    ],
)
def test_a_limit_while_the_server_is_silent_leaves_nothing_open(
    place, statement, answer, call, gates, proxy
):
    gates.close("afterwards")
    stop = proxy.hold(**{place: statement})
    process = call(
        "tests.jobs.calls:run_until_soft_time_limit",
        {"DATABASE_URL": proxy.url},
        task="transactional",
        key="key",
    )
    stop.wait_reached()
    process.signal(signal.SIGUSR1)
    gates.wait_for_arrivals("afterwards")
    stop.release()
    # Asked while the process lives: its end would end its transactions too.
    assert effects("key", "written afterwards") == 1
    with connect(database_url(), autocommit=True) as observer:
        wait_until(lambda: not left_behind(observer), "no transaction and no lock left behind")
    # Held or not, a COMMIT that was sent has come to pass.
    wait_until(lambda: effects("key") == (statement == "COMMIT"), "the end of the transaction")
    assert IdempotencyRecord.objects.filter(state=State.SUCCEEDED).count() == effects("key")
    gates.open("afterwards")
    assert process.answer() == answer


def test_a_limit_while_a_repeated_message_is_looked_up_leaves_a_connection_that_works(
    call, gates, proxy
):
    gates.close("afterwards")
    stop = proxy.hold(after="pg_try_advisory_xact_lock")
    process = call(
        "tests.jobs.calls:run_until_soft_time_limit",
        {"DATABASE_URL": proxy.url},
        task="transactional",
        key="key",
        repeated=True,
    )
    stop.wait_reached()
    process.signal(signal.SIGUSR1)
    gates.wait_for_arrivals("afterwards")
    stop.release()
    assert effects("key", "written afterwards") == 1
    gates.open("afterwards")
    assert process.answer() == ["raised", "SoftTimeLimitExceeded"]


@pytest.mark.parametrize(("place", "state"), [("before", "running"), ("after", "failed")])
def test_a_limit_while_a_claim_is_made_leaves_it_released_or_to_its_lease(
    place, state, call, gates, proxy
):
    """To its lease if the claim is on its way still: nothing is there yet to be released."""
    gates.close("afterwards")
    stop = proxy.hold(**{place: "pg_try_advisory_xact_lock"})
    process = call(
        "tests.jobs.calls:run_until_soft_time_limit",
        {"DATABASE_URL": proxy.url},
        task="unclear",
        key="key",
    )
    stop.wait_reached()
    process.signal(signal.SIGUSR1)
    gates.wait_for_arrivals("afterwards")
    stop.release()
    assert effects("key", "written afterwards") == 1
    wait_until(lambda: IdempotencyRecord.objects.filter(state=state).exists(), state)
    gates.open("afterwards")
    assert process.answer() == ["raised", "SoftTimeLimitExceeded"]


def test_a_limit_while_a_take_over_is_committed_may_be_lost(call, gates, proxy):
    """A limit: Django cannot switch autocommit on then, and its error hides the one that struck."""
    IdempotencyRecord.objects.create(
        key_hash=digest("key", scope="tests.jobs.tasks.unclear").hashes[0],
        scope="tests.jobs.tasks.unclear",
        state=State.FAILED,
        attempt=1,
        settled_at=Now(),
        expires_at=Now() + timedelta(days=1),
    )
    gates.close("afterwards")
    stop = proxy.hold(after="COMMIT")
    process = call(
        "tests.jobs.calls:run_until_soft_time_limit",
        {"DATABASE_URL": proxy.url},
        task="unclear",
        key="key",
    )
    stop.wait_reached()
    assert IdempotencyRecord.objects.get().state == State.RUNNING
    process.signal(signal.SIGUSR1)
    gates.wait_for_arrivals("afterwards")
    stop.release()
    gates.open("afterwards")
    assert process.answer() == ["raised", "TimeoutError"]  # its body's


class Limit:
    """Raises SoftTimeLimitExceeded at the n-th line that runs in the files around our COMMIT."""

    FILES = (
        storage.__path__[0],
        transactional.__file__,
        leased.__file__,
        heartbeat.__file__,
        attempts.__file__,
        transaction.__file__,
        base.__file__,
    )
    # Struck in there, Django's own lock is never released and the thread stops for good.
    SPARED = base.BaseDatabaseWrapper.allow_thread_sharing.fget.__code__

    def __init__(self, line):
        self.left = line
        self.struck = ""

    def __call__(self, frame, event, argument):
        code = frame.f_code
        around = code.co_filename.startswith(self.FILES) and code is not self.SPARED
        return self.strike if around else None

    def strike(self, frame, event, argument):
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self.struck = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise SoftTimeLimitExceeded
        return self.strike


def strike_at(line, policy, observer):
    """Run with the limit at the n-th line; where it struck."""
    limit, key = Limit(line), f"key {line}"
    connection.ensure_connection()
    sys.settrace(limit)
    try:
        execute(lambda: effect(key, "effect"), key=key, scope="limit", policy=policy)
    except SoftTimeLimitExceeded:
        pass
    finally:
        sys.settrace(None)
    try:
        use_afterwards(key, observer)
    except (Exception, pytest.fail.Exception) as error:
        error.add_note(f"after a soft time limit at {limit.struck}")
        raise
    return limit.struck


def use_afterwards(key, observer):
    """Other code on the same connection, as in a worker that takes the next task."""
    with pytest.raises(NoAttempt):
        current_attempt()
    effect(key, "written afterwards")
    execute(lambda: effect(key, "executed afterwards"), key=key, scope="afterwards")
    seen = {note for (note,) in observer.execute(NOTES, [key])}
    assert {"written afterwards", "executed afterwards"} <= seen
    wait_until(lambda: not left_behind(observer), "nothing left behind", seconds=5)


def strike_everywhere(policy):
    """How many lines there are to strike at."""
    try:
        with connect(database_url(), autocommit=True) as observer:
            lines = itertools.count(1)
            return next(line for line in lines if not strike_at(line, policy, observer))
    finally:
        if connection.connection:
            connection.connection.close()


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(Transactional(), id="transactional"),
        pytest.param(Leased(on_doubt=OnDoubt.HOLD, lease=SHORT), id="leased"),
    ],
)
def test_a_limit_at_any_line_leaves_nothing_open(policy):
    # A thread has its own connection: what is wrong with it must not spoil other tests.
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(strike_everywhere, policy).result() > 100
    recorded = IdempotencyRecord.objects.filter(scope="limit", state=State.SUCCEEDED).count()
    happened = Effect.objects.filter(note="effect").count()
    assert recorded == happened if policy == Transactional() else recorded <= happened
    # A heartbeat that nobody has stopped keeps only what is running.
    wait_until(lambda: not IdempotencyRecord.objects.leased().exists(), "the leases to run out")
    # Nor does it outlive this test, whose end takes the database away.
    wait_until(lambda: not heartbeats(), "the heartbeats to end")


def heartbeats():
    return [thread for thread in threading.enumerate() if thread.name == "idempotency-heartbeat"]
