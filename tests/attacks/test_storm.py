"""Duplicates, failing bodies, ended sessions, and a lock that often excludes nobody."""

import os
import random
from collections import Counter

import pytest
from django.db import DatabaseError, InterfaceError, connection
from django.db.backends.signals import connection_created
from psycopg import connect

from idempotency import execute
from idempotency.exceptions import AlreadyRunning, TransactionLost
from idempotency.keys import Key
from idempotency.models import IdempotencyRecord
from tests.execution.bodies import Thread
from tests.harness.processes import database_url
from tests.harness.waiting import wait_until
from tests.jobs.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)

KEYS = int(os.environ.get("STORM_KEYS", "12"))
THREADS = 4
#: One that is in its body, or has just left it.
END_A_SESSION = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND state = 'idle in transaction' LIMIT 1
"""


class BadLuckError(Exception):
    """A body that fails."""


@pytest.fixture(params=["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def _isolation(request):
    def choose(sender, connection, **_):
        with connection.cursor() as cursor:
            cursor.execute(
                f"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {request.param}"
            )

    connection.close()
    connection_created.connect(choose)
    yield
    connection_created.disconnect(choose)
    connection.close()


@pytest.fixture
def dice(monkeypatch):
    """Random numbers; by one of them, a key's lock may be some other."""
    dice, numbers = random.Random(1), Key.lock_numbers.fget
    monkeypatch.setattr(
        Key,
        "lock_numbers",
        property(lambda key: (dice.getrandbits(62),) if dice.random() < 0.5 else numbers(key)),
    )
    return dice


def deliver(key, dice):
    """Deliver until it has come to its end; whether it was answered by an earlier one."""

    def body():
        Effect.objects.create(key=key, note="effect", pid=os.getpid())
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.01)")  # long enough for others to come
        if dice.random() < 0.25:
            raise BadLuckError

    while True:
        try:
            return execute(body, key=key, scope="storm").replayed
        except (BadLuckError, AlreadyRunning, TransactionLost):
            pass  # the message comes again
        except (DatabaseError, InterfaceError):
            connection.close()


def deliver_all(dice):
    return Counter(deliver(str(number), dice) for number in range(KEYS))


@pytest.mark.usefixtures("_isolation")
def test_no_key_has_two_effects_or_one_without_its_record(dice):
    ended = []
    threads = [Thread(lambda: ended.append(deliver_all(dice))) for _ in range(THREADS)]
    for thread in threads:
        thread.__enter__()
    struck = []
    with connect(database_url(), autocommit=True) as operator:

        def is_over():
            struck.extend(operator.execute(END_A_SESSION))
            return len(ended) == THREADS

        wait_until(is_over, "the storm to end", seconds=120)
    assert struck, "no session was ended"
    assert sum(ended, Counter()) == {False: KEYS, True: KEYS * (THREADS - 1)}
    assert Counter(Effect.objects.values_list("key", flat=True)) == Counter(map(str, range(KEYS)))
    assert set(IdempotencyRecord.objects.values_list("state", flat=True)) == {"succeeded"}
