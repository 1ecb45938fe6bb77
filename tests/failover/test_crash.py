"""One server, which crashes and comes back."""

import os
import signal
from contextlib import contextmanager, suppress

import pytest

from tests.failover.servers import crash, rows

pytestmark = pytest.mark.django_db(transaction=True)

CAREFREE = {"synchronous_commit": "off"}
RECORDS = "SELECT scope, state, effect_begun_at IS NOT NULL FROM idempotency_record"
WAL_WRITER = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"


@contextmanager
def nobody_flushes_later(server):
    """What no COMMIT flushes stays in memory: however long its delay, the WAL writer may be about
    to end it."""
    [(pid,)] = rows(server, WAL_WRITER)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it has crashed with the others
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("cluster", [CAREFREE], indirect=True)
def test_a_claim_outlives_the_crash_of_a_server_that_flushes_nothing_else(cluster, call, gates):
    """A transactional job is gone, row and record, though its caller was told of a success."""
    there = {"DATABASE_URL": cluster.primary.url}
    gates.close("effect")
    with nobody_flushes_later(cluster.primary):
        holder = call("tests.jobs.calls:run", there, task="leased", key="held")
        gates.wait_for_arrivals("effect")  # the outside world has it
        told = call("tests.jobs.calls:run", there, task="create", key=["lost"]).answer()
        assert told == ["returned", ["lost"]]
        crash(cluster.primary)
    holder.kill()
    cluster.primary.start()
    assert rows(cluster.primary, RECORDS) == [("tests.jobs.tasks.leased", "running", True)]
    assert rows(cluster.primary, "SELECT * FROM jobs_effect") == []
