"""Servers that a test may crash."""

import pytest

from tests.failover.servers import servers
from tests.failover.work import Work


@pytest.fixture
def cluster(request, call):
    """A primary of this test's own, with the tables; a parameter holds its settings."""
    with servers(**getattr(request, "param", {})) as cluster:
        url = cluster.primary.url
        call("tests.failover.work:migrate", {"DATABASE_URL": url}).answer(seconds=60)
        yield cluster


@pytest.fixture
def work(queue, gates):
    return Work(queue, gates)
