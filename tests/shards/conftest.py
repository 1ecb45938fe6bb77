"""Which databases are shards."""

import pytest
from django.core.management import call_command
from django.db import connections

from idempotency.models import IdempotencyRecord
from project.settings import database
from tests.conftest import GUARD
from tests.failover.servers import servers
from tests.jobs.models import Effect


class Shards:
    """Two aliases, and the router that keeps the records off all others."""

    def __init__(self, *aliases: str) -> None:
        self.aliases = aliases

    def allow_migrate(self, db, app_label, **hints):
        return db in self.aliases if app_label == "idempotency" else None

    def effects(self):
        """The keys of the effects on each."""
        return [[row.key for row in Effect.objects.using(alias)] for alias in self.aliases]

    def states(self):
        """The states of the records on each."""
        rows = [IdempotencyRecord.objects.using(alias) for alias in self.aliases]
        return [sorted(record.state for record in each) for each in rows]


@pytest.fixture
def shards(settings):
    """Two databases at hand: ``default`` and ``sqlite``."""
    shards = Shards("default", "sqlite")
    settings.DATABASE_ROUTERS = [shards]
    return shards


@pytest.fixture(scope="module")
def eu(django_db_setup, django_db_blocker):
    """The URL of a second server, whose alias is there while the module runs."""
    # Nothing crashes it, and its disk has better things to do.
    with servers(fsync="off") as cluster, pytest.MonkeyPatch.context() as patch:
        url = cluster.primary.url
        patch.setitem(connections.settings, "eu", connections.settings["default"] | database(url))
        with django_db_blocker.unblock():
            call_command("migrate", database="eu", run_syncdb=True, verbosity=0)
            with connections["eu"].cursor() as cursor:
                cursor.execute(GUARD)
        yield url
        connections["eu"].close()
        del connections["eu"]


@pytest.fixture
def servers_as_shards(eu, settings):
    """Two servers: ``default`` is the database of this test run, ``eu`` is on one of its own."""
    shards = Shards("default", "eu")
    settings.DATABASE_ROUTERS = [shards]
    return shards
