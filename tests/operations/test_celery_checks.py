"""Each check fires when the configuration is wrong, and is silent when it is right."""

import celery
import pytest
from celery import Celery
from celery.backends.base import BaseBackend
from django.core import checks

from idempotency import idempotent
from idempotency.contrib.celery_checks import check_broker, check_chords, check_tasks
from tests.harness.waiting import wait_until


class Counting(BaseBackend):
    """What django-celery-results does: a counter of its own."""

    def on_chord_part_return(self, request, state, result, **kwargs):
        pass


UNORDERED = {"result_chord_ordered": False}


@pytest.mark.parametrize(
    ("backend", "options", "warned"),
    [
        ("redis://127.0.0.1:1/0", {}, False),
        ("redis://127.0.0.1:1/0", UNORDERED, celery.VERSION < (5, 7)),
        ("cache+memory://", {}, True),
        (f"{__name__}.Counting", {}, True),
        ("db+sqlite://", {}, False),
        ("rpc://", {}, False),
        ("file:///tmp", {}, False),
        ("disabled://", {}, False),
        ("nowhere.Backend", {}, False),
        (None, {}, False),
    ],
)
def test_a_backend_that_counts_a_duplicated_chord_member_twice_is_named(backend, options, warned):
    app = Celery(backend=backend, set_as_current=False)
    app.conf.result_backend_transport_options = options
    found = check_chords(app)
    assert [warning.id for warning in found] == ["idempotency.W019"] * warned


def test_the_project_passes():
    assert [found for found in checks.run_checks() if (found.id or "").startswith("idemp")] == []


def app_with(broker="redis://127.0.0.1:1/0", transport_options=None, **options):
    app = Celery(broker=broker, set_as_current=False)
    app.conf.broker_transport_options = transport_options or {}

    @app.task(name="send", shared=False, **options)
    @idempotent(key="order_id", scope="checked")
    def send(order_id):
        pass

    @app.task(name="plain", shared=False)
    def plain():
        pass

    app.finalize()
    for name in app.tasks.keys() - {"send", "plain"}:
        del app.tasks[name]  # shared tasks come to every application
    return app


def ids(messages):
    assert all(message.hint for message in messages)
    return [message.id.removeprefix("idempotency.") for message in messages]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["W001"]),
        ({"reject_on_worker_lost": True}, ["W001"]),
        ({"acks_late": True}, ["W002"]),
        ({"acks_late": True, "reject_on_worker_lost": True}, []),
    ],
)
def test_a_message_that_dies_with_its_worker_is_named(options, expected):
    assert ids(check_tasks(app_with(**options))) == expected


@pytest.mark.skipif(celery.VERSION < (5, 7), reason="Celery 5.7 has retry_on_worker_lost")
def test_a_task_that_is_retried_when_its_worker_is_lost_is_safe_too():
    assert check_tasks(app_with(acks_late=True, retry_on_worker_lost=True)) == []


@pytest.mark.parametrize(
    ("broker", "transport_options", "limit", "expected"),
    [
        ("redis://127.0.0.1:1/0", {}, None, []),
        ("redis://127.0.0.1:1/0", {}, 3599, []),
        ("redis://127.0.0.1:1/0", {}, 3600, ["W004"]),
        ("redis://127.0.0.1:1/0", {"visibility_timeout": 60}, 100, ["W004"]),
        ("redis://127.0.0.1:1/0", {"visibility_timeout": 9000}, 7200, []),
        ("sqs://x:y@127.0.0.1:1", {}, 1800, ["W004"]),
        ("pgmq://127.0.0.1:1/db", {}, 1800, ["W004"]),
        ("amqp://127.0.0.1:1//", {}, 7200, []),
        ("filesystem://", {}, None, ["W020"]),
        ("memory://", {}, None, ["W020"]),
        (["redis://127.0.0.1:1/0", "redis://127.0.0.1:2/0"], {}, 3600, ["W004"]),
        ("sqla+sqlite://", {}, None, ["W020"]),
    ],
)
def test_a_broker_that_delivers_too_early_or_not_again_is_named(
    broker, transport_options, limit, expected, monkeypatch
):
    monkeypatch.delenv("CELERY_BROKER_URL")  # Celery prefers it
    app = app_with(broker, transport_options, time_limit=limit)
    assert ids(check_broker(app)) == expected


def test_without_an_idempotent_task_nothing_is_said_of_the_broker(monkeypatch):
    monkeypatch.delenv("CELERY_BROKER_URL")
    app = app_with("memory://")
    del app.tasks["send"]
    assert check_broker(app) == []


def test_a_worker_logs_what_is_wrong_when_it_starts(worker):
    started = worker(TEST_ACKS_EARLY=1)
    wait_until(lambda: "idempotency.W001" in started.log.read_text(), "the check in the log")
