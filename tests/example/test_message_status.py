"""What people see of a message. What happens to it, the record decides."""

from smtplib import SMTPServerDisconnected
from uuid import uuid4

import pytest
from django.db import connection

from idempotency import Verdict
from idempotency.exceptions import LeaseLost
from idempotency.models import IdempotencyRecord
from idempotency.resolution import resolve
from idempotency.states import State
from notifications.answers import Refused
from notifications.models import Message, Status
from notifications.status import show_how_it_ended
from notifications.tasks import send_message
from tests.example.conftest import record, status
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def end_delivery(message, state, retval=None):
    """What a worker does at the end of a delivery."""
    show_how_it_ended(task=send_message, args=(message.pk,), kwargs={}, state=state, retval=retval)


def test_a_message_shows_that_it_is_being_sent(mail_server, message):
    seen = []

    def look():
        seen.append((Message.objects.get().status, record().state))
        connection.close()  # the one of this thread

    mail_server.while_sending = look
    send_message(message.pk)
    assert seen == [(Status.SENDING, State.RUNNING)]


def test_a_worker_that_lost_its_claim_does_not_show_its_message_as_sent(mail_server, message):
    def lose():
        IdempotencyRecord.objects.update(claim_id=uuid4())
        connection.close()  # the one of this thread

    mail_server.while_sending = lose
    with pytest.raises(LeaseLost):
        send_message(message.pk)
    assert status(message) == Status.SENDING


def test_a_doubt_and_its_end_show_on_the_message(doubtful):
    end_delivery(doubtful, "FAILURE", SMTPServerDisconnected("gone"))
    assert (status(doubtful), doubtful.answer) == (Status.UNKNOWN, "gone")
    end_delivery(doubtful, "RETRY")
    assert status(doubtful) == Status.UNKNOWN
    end_delivery(doubtful, "SUCCESS")
    assert status(doubtful) == Status.SENT
    doubtful.show(Status.FAILED, answer="what a frozen worker says when it wakes")
    assert status(doubtful) == Status.SENT


def test_a_worker_shows_a_doubt_and_its_resolution(
    mail_server, message, worker, queue, monkeypatch
):
    monkeypatch.setenv("EMAIL_PORT", str(mail_server.port))
    mail_server.hangs_up = True
    worker()
    queue.send(send_message.s(message.pk))
    wait_until(lambda: status(message) == Status.UNKNOWN, "the doubt to show", seconds=40)
    resolve(record().key_hash, Verdict.happened(), reason="It is in the inbox.", by="anna")
    wait_until(lambda: status(message) == Status.SENT, "its end to show")
    assert len(mail_server.inbox) == 1


def test_a_worker_tries_again_what_the_server_refused_for_now(
    mail_server, message, worker, queue, monkeypatch
):
    monkeypatch.setenv("EMAIL_PORT", str(mail_server.port))
    mail_server.recipient_answer = "450 greylisted"
    worker()
    queue.send(send_message.s(message.pk))
    wait_until(lambda: status(message) == Status.FAILED, "the refusal", seconds=40)
    mail_server.recipient_answer = "250 OK"
    wait_until(lambda: status(message) == Status.SENT, "the retry", seconds=40)
    assert len(mail_server.inbox) == 1


def test_a_certain_failure_does_not_show_as_a_doubt(mail_server, message):
    mail_server.recipient_answer = "550 no such user"
    with pytest.raises(Refused) as refused:
        send_message(message.pk)
    end_delivery(message, "FAILURE", refused.value)
    assert status(message) == Status.FAILED


def test_the_admin_shows_both_models_and_changes_nothing(admin_client, message):
    for model in ("campaign", "message"):
        assert admin_client.get(f"/admin/notifications/{model}/?q=a").status_code == 200
        assert admin_client.get(f"/admin/notifications/{model}/add/").status_code == 403
    page = admin_client.get(f"/admin/notifications/message/{message.pk}/change/")
    assert "anna@example.com" in page.text
    assert 'name="_save"' not in page.text
