"""The tasks of the example, called directly, against a real mail server."""

from smtplib import SMTPDataError
from uuid import UUID

import pytest

from idempotency import Verdict
from idempotency.exceptions import InDoubt, KeyReused
from idempotency.resolution import resolve
from idempotency.states import State
from notifications.answers import Refused, Unavailable
from notifications.models import Message, Status
from notifications.tasks import create_messages, send_message
from tests.example.conftest import record, status
from tests.example.mail_server import MailServer

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_message_is_sent_once_and_a_duplicate_replays(mail_server, message):
    assert send_message(message.pk) is None
    assert send_message(message_id=message.pk) is None
    [mail] = mail_server.inbox
    assert (mail["To"], mail["Subject"]) == ("anna@example.com", "Grüße")
    assert status(message) == Status.SENT
    assert message.sent_at is not None
    assert record().state == State.SUCCEEDED


def test_a_server_that_takes_the_mail_and_hangs_up_leaves_a_doubt_and_one_copy(
    mail_server, doubtful, let_lease_lapse
):
    assert record().state == State.IN_DOUBT
    assert status(doubtful) == Status.SENDING
    let_lease_lapse()
    with pytest.raises(InDoubt):
        send_message(doubtful.pk)
    assert len(mail_server.inbox) == 1


def test_a_doubt_resolved_as_happened_is_never_sent_again(mail_server, doubtful):
    resolve(record().key_hash, Verdict.happened(), reason="It is in the inbox.", by="anna")
    assert send_message(doubtful.pk) is None
    assert len(mail_server.inbox) == 1
    assert record().state == State.SUCCEEDED


def test_a_doubt_resolved_as_not_happened_is_sent_again_under_the_same_message_id(
    mail_server, doubtful
):
    resolve(record().key_hash, Verdict.did_not_happen(), reason="Not in the inbox.", by="anna")
    send_message(doubtful.pk)
    first, second = mail_server.inbox
    assert first["Message-ID"] == second["Message-ID"]
    assert first["X-Idempotency-Key"] == second["X-Idempotency-Key"]
    assert status(doubtful) == Status.SENT
    assert record().state == State.SUCCEEDED


def test_what_the_server_says_to_the_goodbye_changes_nothing(mail_server, message):
    mail_server.farewell = "221 " + "x" * 10_000  # smtplib: SMTPResponseException, line too long
    send_message(message.pk)
    assert status(message) == Status.SENT
    assert record().state == State.SUCCEEDED


def test_two_messages_have_two_message_ids(mail_server, campaign, message):
    other = campaign.messages.create(recipient="bob@example.com", subject="Hello", body="Hello")
    send_message(message.pk)
    send_message(other.pk)
    first, second = mail_server.inbox
    assert first["Message-ID"] != second["Message-ID"]
    assert UUID(first["X-Idempotency-Key"]).hex in first["Message-ID"]


@pytest.mark.parametrize(
    ("fault", "answer", "error"),
    [
        ("recipient_answer", "550 no such user", Refused),
        ("recipient_answer", "450 greylisted", Unavailable),
        ("data_answer", "554 spam", Refused),
        ("data_answer", "451 disk full", Unavailable),
    ],
)
def test_what_the_server_refuses_has_failed_without_a_doubt(
    mail_server, message, fault, answer, error
):
    setattr(mail_server, fault, answer)
    with pytest.raises(error, match=answer):
        send_message(message.pk)
    assert status(message) == Status.FAILED
    assert message.answer == answer
    assert record().state == State.FAILED
    setattr(mail_server, fault, "250 OK")
    send_message(message.pk)
    assert len(mail_server.inbox) == 1
    assert status(message) == Status.SENT
    assert message.answer == ""


def test_an_answer_to_the_mail_that_is_no_refusal_leaves_a_doubt(mail_server, message):
    mail_server.data_answer = "251 will forward"
    with pytest.raises(SMTPDataError):
        send_message(message.pk)
    assert len(mail_server.inbox) == 1
    assert record().state == State.IN_DOUBT


def test_a_server_that_cannot_be_reached_leaves_no_doubt_and_a_later_call_sends(
    mail_server, message, settings
):
    with MailServer() as gone:
        settings.EMAIL_PORT = gone.port
    with pytest.raises(Unavailable):
        send_message(message.pk)
    assert record().state == State.FAILED
    assert status(message) == Status.FAILED
    settings.EMAIL_PORT = mail_server.port
    send_message(message.pk)
    assert len(mail_server.inbox) == 1


def test_a_mail_that_cannot_be_built_has_failed_without_a_doubt(mail_server, message):
    Message.objects.update(subject="Hello\nBcc: everybody@example.com")
    with pytest.raises(Refused):
        send_message(message.pk)
    assert record().state == State.FAILED
    assert status(message) == Status.FAILED
    assert mail_server.inbox == []


def test_only_what_is_certainly_not_sent_is_retried():
    assert send_message.autoretry_for == (Unavailable,)


def test_a_part_of_a_campaign_is_created_once(campaign):
    rows = [{"recipient": f"{n}@example.com", "subject": "Hello", "body": "Hello"} for n in "ab"]
    ids = create_messages(campaign.pk, 0, rows)
    assert create_messages(campaign.pk, 0, rows) == ids
    assert list(campaign.messages.order_by("pk").values_list("pk", flat=True)) == ids
    assert [message.recipient for message in Message.objects.order_by("pk")] == [
        "a@example.com",
        "b@example.com",
    ]


def test_a_part_with_other_rows_is_refused(campaign):
    create_messages(campaign.pk, 0, [])
    with pytest.raises(KeyReused):
        create_messages(campaign.pk, 0, [{"recipient": "a@b.cd", "subject": "S", "body": "B"}])
    assert not campaign.messages.exists()
