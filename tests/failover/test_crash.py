"""One server, which crashes and comes back."""

import pytest

from tests.failover.servers import crash, rows

pytestmark = pytest.mark.django_db(transaction=True)

#: What no COMMIT flushes stays in memory for as long as PostgreSQL lets us say.
CAREFREE = {"synchronous_commit": "off", "wal_writer_delay": "10s"}
RECORDS = "SELECT scope, state, effect_begun_at IS NOT NULL FROM idempotency_record"


@pytest.mark.parametrize("cluster", [CAREFREE], indirect=True)
def test_a_claim_outlives_the_crash_of_a_server_that_flushes_nothing_else(cluster, call, gates):
    """A transactional job is gone, row and record, though its caller was told of a success."""
    there = {"DATABASE_URL": cluster.primary.url}
    gates.close("effect")
    holder = call("tests.jobs.calls:run", there, task="leased", key="held")
    gates.wait_for_arrivals("effect")  # the outside world has it
    told = call("tests.jobs.calls:run", there, task="create", key=["lost"]).answer()
    assert told == ["returned", ["lost"]]
    crash(cluster.primary)
    holder.kill()
    cluster.primary.start()
    assert rows(cluster.primary, RECORDS) == [("tests.jobs.tasks.leased", "running", True)]
    assert rows(cluster.primary, "SELECT * FROM jobs_effect") == []
