"""Each check fires when the configuration is wrong, and is silent when it is right."""

import sys
from datetime import timedelta

import celery
import pytest
from celery import Celery, Task
from celery.backends.base import BaseBackend
from celery.beat import ScheduleEntry
from django.core import checks
from django.test import override_settings
from kombu import Queue

from idempotency import TASK_ID, Leased, OnDoubt, Transactional, idempotent
from idempotency.contrib.celery_checks import application, broker, tasks
from idempotency.exceptions import IdempotencyError, InDoubt
from tests.harness.waiting import wait_until

REDIS, SQS, AMQP = "redis://127.0.0.1:1/0", "sqs://x:y@127.0.0.1:1", "amqp://127.0.0.1:1//"
LATE = {"acks_late": True, "reject_on_worker_lost": True}
COMMIT, HOLD = Transactional(), Leased(on_doubt=OnDoubt.HOLD)


@pytest.fixture(autouse=True)
def _broker_of_the_application(monkeypatch, request):
    if "worker" not in request.fixturenames:
        monkeypatch.delenv("CELERY_BROKER_URL")  # Celery prefers it


def app_with(url=REDIS, transport_options=None, policy=COMMIT, retention=None, **options):
    app = Celery(broker=url, set_as_current=False)
    app.conf.broker_transport_options = transport_options or {}

    @app.task(name="send", shared=False, **options)
    @idempotent(key="order_id", scope="checked", policy=policy, retention=retention)
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


def test_the_project_passes():
    assert [found for found in checks.run_checks() if (found.id or "").startswith("idemp")] == []


def test_without_an_idempotent_task_nothing_is_said(monkeypatch):
    app = app_with("memory://")
    monkeypatch.setattr("idempotency.contrib.celery_checks.current_app", Current(app))
    assert "idempotency.W020" in found()
    del app.tasks["send"]
    assert found() == []


class Current:
    def __init__(self, app):
        self._get_current_object = lambda: app


def found():
    celery_s = ("W001", "W002", "W018", "W020")
    messages = checks.run_checks(tags=["idempotency"])
    return [each.id for each in messages if each.id.endswith(celery_s)]


@pytest.mark.parametrize(
    ("url", "settings", "says"),
    [
        ("reddis://name:secret@h", {}, "KeyError: 'No such transport: reddis"),
        ("hermes.Transport://name:secret@h", {}, "ValueError: Invalid transport scheme"),
        ("redis://name:secret@localhost:abc/0", {}, "ValueError: Port could not be cast"),
        ("redis://name:secret/1@localhost:1/0", {}, "read here (ValueError)"),
        (REDIS, {"broker_transport_options": {"visibility_timeout": "abc"}}, "timeout is 'abc', a"),
        (
            REDIS,
            {"broker_transport_options": ["visibility_timeout"]},
            "ValueError: dictionary update",
        ),
        (REDIS, {"task_time_limit": "600"}, "TypeError: the time limit of send is '600', and no"),
    ],
)
def test_what_cannot_be_read_is_one_warning_and_hides_nothing_else(
    url, settings, says, monkeypatch
):
    app = app_with(url)
    app.conf.update(settings)
    monkeypatch.setattr("idempotency.contrib.celery_checks.current_app", Current(app))
    messages = checks.run_checks(tags=["idempotency"])
    assert set(ids(messages)) == {"W001", "W032"}
    [message] = [each for each in messages if each.id == "idempotency.W032"]
    assert says in message.msg
    assert "secret" not in message.msg


def test_a_transport_whose_client_is_not_installed_stops_no_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "kombu.transport.mongodb", None)
    app = app_with("mongodb://127.0.0.1:1")
    monkeypatch.setattr("idempotency.contrib.celery_checks.current_app", Current(app))
    [message] = [each for each in checks.run_checks() if each.id == "idempotency.W032"]
    assert "ModuleNotFoundError: " in message.msg


@pytest.mark.parametrize(
    ("url", "text", "quotes"),
    [
        ("amqp://guest:guest@h//", "guest is refused by h", False),
        ("amqp://name:s3%2Fcret@h//", "s3/cret", True),
        ("amqp://name:s3%2Fcret@h//", "s3%2Fcret", True),
        ("amqp://name@h//", "name", False),
        (["amqp://a:b@h//", "amqp://a:secret@h//"], "not 'secret'", True),
    ],
)
def test_a_text_that_quotes_the_password_is_known(url, text, quotes):
    assert broker.quotes_password(app_with(url), text) is quotes


def test_a_worker_logs_what_is_wrong_when_it_starts(worker):
    started = worker(TEST_ACKS_EARLY=1)
    wait_until(lambda: "idempotency.W001" in started.log.read_text(), "the check in the log")


# -- a task ----------------------------------------------------------------------------------------


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
    assert ids(tasks.check_deaths(app_with(**options))) == expected


@pytest.mark.skipif(celery.VERSION < (5, 7), reason="Celery 5.7 has retry_on_worker_lost")
def test_a_task_that_is_retried_when_its_worker_is_lost_is_safe_too():
    assert tasks.check_deaths(app_with(acks_late=True, retry_on_worker_lost=True)) == []


@pytest.mark.parametrize(
    ("max_run", "limit", "warned"),
    [(60, 61, True), (60, 60, False), (60, None, False), (None, 7200, False)],
)
def test_a_lease_that_is_given_up_before_the_body_is_named(max_run, limit, warned):
    policy = Leased(on_doubt=OnDoubt.HOLD, max_run=max_run and timedelta(seconds=max_run))
    assert ids(tasks.check_leases(app_with(policy=policy, time_limit=limit))) == ["W006"] * warned


@pytest.mark.parametrize(
    ("policy", "limit", "warned"),
    [
        (HOLD, None, True),
        (HOLD, 60, False),
        (Leased(on_doubt=OnDoubt.HOLD, max_run=timedelta(hours=2)), None, False),
        (COMMIT, None, False),
    ],
)
def test_a_leased_body_that_nothing_ends_is_named(policy, limit, warned):
    app = app_with(policy=policy, time_limit=limit)
    assert ids(tasks.check_time_limits(app)) == ["W005"] * warned


def test_the_time_limit_of_the_application_counts():
    app = app_with(policy=HOLD)
    app.conf.task_time_limit = 60
    assert tasks.check_time_limits(app) == []


@pytest.mark.parametrize(
    ("policy", "options", "warned"),
    [
        (HOLD, {}, False),
        (HOLD, {"autoretry_for": (Exception,)}, True),
        (HOLD, {"autoretry_for": (InDoubt,)}, True),
        (HOLD, {"autoretry_for": (OSError,)}, False),
        (
            HOLD,
            {"autoretry_for": (Exception,), "dont_autoretry_for": (IdempotencyError,)},
            False,
        ),
        (COMMIT, {"autoretry_for": (Exception,)}, False),
    ],
)
def test_a_task_that_retries_for_its_own_doubt_is_named(policy, options, warned):
    assert ids(tasks.check_retries(app_with(policy=policy, **options))) == ["W022"] * warned


@pytest.mark.parametrize(("serializer", "warned"), [("pickle", True), ("json", False)])
def test_arguments_that_cannot_be_kept_are_named(serializer, warned):
    assert ids(tasks.check_pickle(app_with(serializer=serializer))) == ["W014"] * warned


# -- the broker ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "transport_options", "limit", "expected"),
    [
        (REDIS, {}, None, []),
        (REDIS, {}, 3599, []),
        (REDIS, {}, 3600, ["W004"]),
        (REDIS, {"visibility_timeout": 60}, 100, ["W004"]),
        (REDIS, {"visibility_timeout": 9000}, 7200, []),
        (SQS, {}, 1800, ["W004"]),
        ("pgmq://127.0.0.1:1/db", {}, 1800, ["W004"]),
        (AMQP, {}, 7200, []),
        ("filesystem://", {}, None, ["W020"]),
        ("memory://", {}, None, ["W020"]),
        ([REDIS, "redis://127.0.0.1:2/0"], {}, 3600, ["W004"]),
        ("sqla+sqlite://", {}, None, ["W020"]),
        ("zookeeper://127.0.0.1:1", {}, 7200, ["W020"]),
        ("pyamqp://127.0.0.1:1//", {}, 7200, []),
        ("rediss://127.0.0.1:1/0", {}, None, []),
        ("sentinel://127.0.0.1:1/0", {}, None, []),
    ],
)
def test_a_broker_that_delivers_too_early_or_not_again_is_named(
    url, transport_options, limit, expected
):
    app = app_with(url, transport_options, time_limit=limit)
    assert ids(broker.check_forgetting(app) + broker.check_visibility(app)) == expected


@pytest.mark.parametrize(
    ("url", "transport_options", "expected"),
    [
        (AMQP, None, ["W033"]),
        (AMQP, {"confirm_publish": False}, ["W033"]),
        (AMQP, {"confirm_publish": True}, []),
        (REDIS, None, []),
        (SQS, None, []),
    ],
)
def test_a_rabbitmq_that_confirms_nothing_is_named(url, transport_options, expected):
    assert ids(broker.check_confirms(app_with(url, transport_options))) == expected


@pytest.mark.parametrize(("key", "expected"), [("pk", ["W034"]), (TASK_ID, [])])
def test_tasks_that_inherit_one_decorated_body_are_named(key, expected):
    app = Celery(broker=REDIS, set_as_current=False)

    class Import(Task):
        @idempotent(key=key, scope="inherited")
        def run(self, pk):
            pass

    for name in ("orders", "customers"):
        app.register_task(type(name, (Import,), {"name": name})())
    found = tasks.check_bodies(app)
    assert ids(found) == expected
    assert all("customers and orders" in message.msg for message in found)


def test_a_run_that_the_policy_allows_counts_like_a_time_limit():
    policy = Leased(on_doubt=OnDoubt.HOLD, max_run=timedelta(hours=2))
    [message] = broker.check_visibility(app_with(policy=policy))
    assert "may run for 7200 s" in message.msg


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({"autoretry_for": ()}, None),
        ({}, 180),
        ({"default_retry_delay": 60}, 60),
        ({"default_retry_delay": 59}, None),
        ({"retry_kwargs": {"countdown": 61}}, 61),
        ({"retry_kwargs": {"countdown": 1}}, None),
        ({"max_retries": 0}, None),
        ({"retry_backoff": True}, None),
        ({"retry_backoff": 20}, 80),
        ({"retry_backoff": True, "max_retries": 20}, 600),
        ({"retry_backoff": True, "max_retries": None}, 600),
        ({"retry_backoff": True, "max_retries": 20, "retry_backoff_max": 30}, None),
    ],
)
def test_a_pause_before_a_retry_that_outlasts_the_broker_is_named(options, seconds):
    options = {"autoretry_for": (OSError,)} | options
    found = broker.check_visibility(
        app_with(transport_options={"visibility_timeout": 60}, **options)
    )
    assert ids(found) == ["W004"] * (seconds is not None)
    assert seconds is None or f"may wait before a retry for {seconds} s" in found[0].msg


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("settings", "retention", "url", "warned"),
    [
        ({}, None, REDIS, False),
        ({}, timedelta(days=1), REDIS, True),
        ({}, timedelta(hours=25), REDIS, False),
        ({}, timedelta(days=1), AMQP, False),
        ({"RETENTION": HOUR}, None, AMQP, True),
        ({"RETENTION": HOUR, "DEFER_FOR": HOUR}, None, AMQP, False),
        ({"RETENTION": HOUR, "DEFER_FOR": HOUR, "LEASE": HOUR}, None, AMQP, True),
    ],
)
def test_a_record_that_is_forgotten_too_early_is_named(settings, retention, url, warned):
    with override_settings(IDEMPOTENCY=settings):
        found = broker.check_retention(app_with(url, retention=retention))
    assert ids(found) == ["W008"] * warned


@pytest.mark.parametrize(
    ("url", "policy", "options", "warned"),
    [
        (SQS, COMMIT, LATE, True),
        ("pgmq://127.0.0.1:1/db", COMMIT, LATE, True),
        (REDIS, COMMIT, LATE, False),
        (SQS, HOLD, LATE, False),
        (SQS, COMMIT, {"acks_late": True}, False),
        (SQS, COMMIT, LATE | {"retry_on_worker_lost": True}, False),
    ],
)
def test_deaths_that_nobody_counts_are_named(url, policy, options, warned):
    assert ids(broker.check_poison(app_with(url, policy=policy, **options))) == ["W003"] * warned


@pytest.mark.parametrize(
    ("url", "arguments", "redeliveries", "warned"),
    [
        (AMQP, {"x-queue-type": "quorum"}, 10, False),
        (AMQP, {"x-queue-type": "quorum"}, 20, True),
        (AMQP, {"x-queue-type": "quorum", "x-delivery-limit": 10}, 10, True),
        (AMQP, {"x-queue-type": "quorum", "x-delivery-limit": 11}, 10, False),
        (AMQP, {"x-queue-type": "quorum", "x-delivery-limit": -1}, 10, False),
        (AMQP, {"x-delivery-limit": 5}, 10, False),
        ("pyamqp://127.0.0.1:1//", {"x-queue-type": "quorum"}, 20, True),
        (REDIS, {"x-queue-type": "quorum"}, 20, False),
    ],
)
def test_a_queue_that_drops_a_message_before_we_stop_it_is_named(
    url, arguments, redeliveries, warned
):
    app = app_with(url)
    app.conf.task_queues = [Queue("mails", queue_arguments=arguments)]
    with override_settings(IDEMPOTENCY={"MAX_REDELIVERIES": redeliveries}):
        assert ids(broker.check_delivery_limit(app)) == ["W024"] * warned


@pytest.mark.skipif(celery.VERSION < (5, 5), reason="Celery 5.5 has task_default_queue_type")
def test_a_queue_without_a_type_has_that_of_the_application():
    app = app_with(AMQP)
    app.conf.task_default_queue_type = "quorum"
    with override_settings(IDEMPOTENCY={"MAX_REDELIVERIES": 20}):
        assert ids(broker.check_delivery_limit(app)) == ["W024"]


# -- the application -------------------------------------------------------------------------------


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
    found = application.check_chords(app)
    assert [warning.id for warning in found] == ["idempotency.W019"] * warned


@pytest.mark.parametrize("on", [True, False])
def test_celery_s_own_deduplication_is_named(on):
    app = app_with()
    app.conf.worker_deduplicate_successful_tasks = on
    assert ids(application.check_deduplication(app)) == ["W018"] * on


@pytest.mark.parametrize("on", [True, False])
def test_an_application_without_messages_is_named(on):
    app = app_with()
    app.conf.task_always_eager = on
    assert ids(application.check_eager(app)) == ["W009"] * on


PURGE = {"task": "idempotency.purge", "schedule": 60}
SWEEP = {"task": "idempotency.sweep", "schedule": 60}


@pytest.mark.parametrize(
    ("schedule", "scheduler", "said"),
    [
        ({}, None, "idempotency.purge and idempotency.sweep are not"),
        ({"purge": PURGE}, None, "sweep are not in the beat schedule: nothing finds doubts"),
        ({"sweep": SWEEP}, None, "purge are not in the beat schedule: nothing deletes"),
        ({"purge": PURGE, "sweep": SWEEP}, None, None),
        ({"purge": ScheduleEntry(**PURGE), "sweep": SWEEP}, None, None),
        ({"purge": {"schedule": 60}, "sweep": SWEEP}, None, "idempotency.purge are not"),
        ({}, "django_celery_beat.schedulers:DatabaseScheduler", None),
    ],
)
def test_maintenance_that_nobody_has_scheduled_is_named(schedule, scheduler, said):
    app = app_with()
    app.conf.beat_schedule = schedule
    if scheduler:
        app.conf.beat_scheduler = scheduler
    found = application.check_beat(app)
    assert ids(found) == ["W011"] * (said is not None)
    assert said is None or said in found[0].msg
