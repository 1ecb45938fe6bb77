"""What the story's tests share: an execution, the event that completes it, and AWS as moto."""

from collections.abc import Iterator

import pytest
from django.db import connection

from tests.example.mail_server import MailServer
from tests.harness.brokers import Broker, sqs
from tests.story.models import Execution


@pytest.fixture
def execution(transactional_db):
    return Execution.objects.create()


@pytest.fixture
def event(execution):
    return {"id": "evt-1", "type": "ExecutionCompleted", "execution": execution.pk}


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[Broker]:
    """SQS, and all else that moto emulates on the same port."""
    with sqs() as broker:
        yield broker


@pytest.fixture
def rows():
    """Every row of a table as text, with what PostgreSQL notes of its writing."""

    def rows(table):
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT ctid, xmin, xmax, t::text FROM {table} t ORDER BY id")  # noqa: S608
            return cursor.fetchall()

    return rows
