"""The contract through a pooler that gives all clients one backend, a transaction at a time."""

from collections.abc import Iterator

import pytest
from django.db import connection

from tests.harness.pooler import PgBouncer, behind, pgbouncer
from tests.storage.contract import HOLD, StorageContract

LEFT_BEHIND = """
SELECT current_setting('synchronous_commit'), current_setting('lock_timeout'),
       current_setting('transaction_isolation'), current_setting('idempotency.locked', true),
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
"""


@pytest.fixture(scope="module")
def pooler(django_db_setup: None) -> Iterator[PgBouncer]:
    with pgbouncer(default_pool_size="1") as pooler:
        yield pooler


@pytest.mark.django_db(transaction=True)
class TestPgBouncer(StorageContract):
    using = "default"

    @pytest.fixture(autouse=True)
    def _behind(self, transactional_db: None, pooler: PgBouncer) -> Iterator[None]:
        with behind(pooler):
            yield

    def test_a_job_leaves_nothing_behind_on_the_backend_of_the_others(self):
        self.sql("SET synchronous_commit = off; SET lock_timeout = '7s'")
        try:
            with pytest.raises(ZeroDivisionError):
                self.once(lambda: 1 // 0)
            self.once(key="leased", policy=HOLD)
            self.once()
            assert self.sql(LEFT_BEHIND) == ("off", "7s", "read committed", "", 0)
        finally:
            self.sql("RESET ALL")

    def sql(self, statement):
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone() if cursor.description else None
