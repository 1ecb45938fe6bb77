"""Doubts that are asked about: the mail server's log by Message-ID, a receiver by its key."""

import os
import signal
from datetime import UTC, datetime, timedelta
from smtplib import SMTPServerDisconnected

import pytest

from idempotency import Verdict
from idempotency.contrib import celery_tasks
from idempotency.exceptions import InDoubt
from idempotency.maintenance import sweep
from idempotency.models import ParkedMessage
from idempotency.policies import Doubt
from idempotency.states import State
from notifications.answers import Unknown
from notifications.asking import ask_mail_server, ask_receiver
from notifications.demo.plan import Fault
from notifications.models import Status
from notifications.tasks import enqueue_each, post_and_ask, send_message
from tests.example.conftest import PATH, record, status
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def log(mail_server, settings):
    settings.MAIL_LOG_URL = f"http://{mail_server.log.host}/log"
    return mail_server.log


@pytest.fixture
def lost(mail_server, message):
    """The message, after the server hung up without taking its mail."""
    mail_server.hangs_up, mail_server.data_answer = True, "451 gone"
    with pytest.raises(SMTPServerDisconnected):
        send_message(message.pk)
    mail_server.hangs_up, mail_server.data_answer = False, "250 OK"
    assert record().state == State.IN_DOUBT
    return message


@pytest.fixture(params=["the next delivery", "the sweeper"])
def ask(request, let_lease_lapse):
    """Ask about the doubt of a message."""

    def by_delivery(message):
        let_lease_lapse()
        send_message(message.pk)

    def by_sweeper(message):
        let_lease_lapse()
        sweep()
        send_message(message.pk)

    return by_delivery if request.param == "the next delivery" else by_sweeper


def test_a_mail_in_the_log_is_not_sent_again(ask, log, mail_server, doubtful):
    ask(doubtful)
    assert len(mail_server.inbox) == 1
    assert record().state == State.SUCCEEDED


def test_a_mail_that_a_complete_log_does_not_hold_is_sent(ask, log, mail_server, lost):
    ask(lost)
    [mail] = mail_server.inbox
    assert record().provider_key.hex in mail["Message-ID"]
    assert status(lost) == Status.SENT


@pytest.mark.parametrize("fault", ["began later", "holds gaps", "fails", "is gone", "is not set"])
def test_a_log_that_may_miss_a_mail_leaves_the_doubt(ask, log, mail_server, lost, settings, fault):
    if fault == "began later":
        log.complete_since = datetime.now(UTC) + timedelta(seconds=1)
    elif fault == "holds gaps":
        log.complete_since = None
    elif fault == "fails":
        log.find = lambda message_id: 1 / 0
    elif fault == "is gone":
        settings.MAIL_LOG_URL = "http://127.0.0.1:1/"
    else:
        settings.MAIL_LOG_URL = ""
    with pytest.raises(InDoubt):
        ask(lost)
    assert record().state == State.IN_DOUBT
    assert mail_server.inbox == []


def a_doubt(arguments):
    return Doubt(
        key_hash=record().key_hash,
        scope="s",
        attempt=1,
        provider_key=record().provider_key,
        begun_at=datetime.now(UTC),
        arguments=arguments,
    )


def test_who_cannot_be_asked_knows_nothing(asked, webhook, settings):
    message = webhook(asked)
    asked.trouble.faults[PATH] = Fault.HANG_UP
    with pytest.raises(Unknown):
        post_and_ask(message.pk)
    assert ask_receiver(a_doubt({"message_id": message.pk})) == Verdict.happened()
    assert ask_receiver(a_doubt(None)) == Verdict.unknown()
    assert ask_receiver(a_doubt({"message_id": 0})) == Verdict.unknown()
    settings.WEBHOOKS_CAN_BE_ASKED = set()
    assert ask_receiver(a_doubt({"message_id": message.pk})) == Verdict.unknown()
    settings.MAIL_LOG_URL = f"http://{asked.host}/{'x' * 10}"
    assert ask_mail_server(a_doubt(None)) == Verdict.did_not_happen()


def test_a_workers_doubt_is_asked_about_by_the_next_delivery_and_shows(
    mail_server, message, worker, queue, monkeypatch, let_lease_lapse
):
    monkeypatch.setenv("EMAIL_PORT", str(mail_server.port))
    mail_server.hangs_up = True
    worker(MAIL_LOG_URL=f"http://{mail_server.log.host}")
    queue.send(send_message.s(message.pk))
    wait_until(lambda: status(message) == Status.UNKNOWN, "the doubt to show", seconds=60)
    let_lease_lapse()
    queue.send(send_message.s(message.pk))
    wait_until(lambda: status(message) == Status.SENT, "its end to show", seconds=60)
    queue.wait_empty(seconds=60)
    assert len(mail_server.inbox) == 1
    assert not ParkedMessage.objects.exists()


def test_a_workers_doubt_is_asked_about_by_its_sweep_and_shows(
    asked, webhook, worker, queue, let_lease_lapse
):
    message = webhook(asked)
    asked.trouble.faults[PATH] = Fault.HANG_UP
    running = worker(WEBHOOKS_CAN_BE_ASKED=asked.host)
    queue.send(enqueue_each.s([message.pk]))
    wait_until(lambda: status(message) == Status.UNKNOWN, "the doubt to show", seconds=60)
    let_lease_lapse()
    queue.send(celery_tasks.sweep.s())
    wait_until(lambda: status(message) == Status.SENT, "its end to show", seconds=60)
    queue.wait_empty(seconds=60)
    assert len(asked.journal) == asked.seen == 1
    assert "s3cret" not in running.log.read_text()


@pytest.mark.parametrize("fault", [Fault.KILL_BEFORE, Fault.KILL_AFTER])
@pytest.mark.parametrize("kind", ["keyed", "asked"])
def test_a_worker_killed_around_the_webhook_leaves_one_effect(
    request, kind, fault, webhook, worker, queue
):
    receiver = request.getfixturevalue(kind)
    message = webhook(receiver)
    killed = []

    def kill(pid):
        killed.append(pid)
        os.kill(pid, signal.SIGKILL)
        return True

    receiver.trouble.kill = kill
    receiver.trouble.faults[PATH] = fault
    worker(lease=3, WEBHOOKS_CAN_BE_ASKED=receiver.host)
    queue.send(enqueue_each.s([message.pk]))
    wait_until(lambda: status(message) == Status.SENT, "it to be sent", seconds=90)
    queue.wait_empty(seconds=60)
    assert len(killed) == 1
    assert len(receiver.journal) == 1
    # The receiver that honours the key was sent it again; the other one was asked first.
    asked_first = kind == "asked" and fault is Fault.KILL_AFTER
    assert receiver.seen == (1 if asked_first else 2)


@pytest.mark.parametrize("trouble", ["404", "no JSON", "is gone", "silence"])
def test_an_answer_that_says_nothing_is_logged_without_the_url(asked, webhook, caplog, trouble):
    message = webhook(asked)
    asked.trouble.faults[PATH] = Fault.HANG_UP
    with pytest.raises(Unknown):
        post_and_ask(message.pk)
    if trouble == "404":
        asked.answer_to_questions = 404, b"{}"
    elif trouble == "no JSON":
        asked.answer_to_questions = 200, b"Welcome"
    elif trouble == "silence":
        asked.find = lambda key: 1 / 0
    else:
        asked.stop()
    assert ask_receiver(a_doubt({"message_id": message.pk})) == Verdict.unknown()
    assert "Asked in vain" in caplog.text
    assert "s3cret" not in caplog.text
    assert asked.host not in caplog.text
