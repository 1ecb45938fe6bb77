"""Webhooks, sent by direct calls to a real receiver that does what receivers do wrong."""

import json

import pytest
from django.core.exceptions import ValidationError

from idempotency.exceptions import AlreadyRunning, InDoubt
from idempotency.models import IdempotencyRecord
from idempotency.states import State
from notifications.answers import Refused, Unavailable, Unknown
from notifications.demo.plan import Fault
from notifications.demo.receiver import Receiver
from notifications.demo.trouble import EVERYBODY
from notifications.models import Channel, Message, Status
from notifications.tasks import create_messages, post_and_ask, post_with_key, send_message
from tests.example.conftest import PATH, record, status
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=["keyed", "asked"])
def either(request):
    """Each kind of receiver, with the task that sends to it."""
    receiver = request.getfixturevalue(request.param)
    return receiver, post_with_key if receiver.honours_key else post_and_ask


def test_a_webhook_is_called_once_with_its_key_and_a_duplicate_replays(either, webhook):
    receiver, post = either
    message = webhook(receiver)
    post(message.pk)
    post(message_id=message.pk)
    [effect] = receiver.journal
    assert effect.path == PATH
    assert effect.key == str(record().provider_key)
    assert json.loads(effect.body) == {"subject": "Hello", "body": "Grüße"}
    assert receiver.seen == 1
    assert status(message) == Status.SENT
    assert record().state == State.SUCCEEDED


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (400, Refused),
        (404, Refused),
        (422, Refused),
        (307, Refused),
        (308, Refused),
        (425, Unavailable),
        (429, Unavailable),
    ],
)
def test_what_the_receiver_refuses_has_failed_without_a_doubt(either, webhook, answer, error):
    receiver, post = either
    message = webhook(receiver)
    receiver.status = answer
    with pytest.raises(error, match=f"^{answer} "):
        post(message.pk)
    assert receiver.seen == 1  # a redirect is not followed
    assert status(message) == Status.FAILED
    assert record().state == State.FAILED
    receiver.status = 200
    post(message.pk)
    assert len(receiver.journal) == 1
    assert status(message) == Status.SENT


@pytest.mark.parametrize("answer", [301, 302, 303, 408, 409, 500, 503])
def test_an_answer_that_tells_nothing_is_a_doubt_or_is_repeated_under_the_same_key(
    either, webhook, answer, let_lease_lapse
):
    receiver, post = either
    message = webhook(receiver)
    receiver.status = answer
    with pytest.raises(Unknown, match=f"^{answer} "):
        post(message.pk)
    assert receiver.seen == 1
    assert status(message) == Status.SENDING
    assert record().state == (State.FAILED if receiver.honours_key else State.IN_DOUBT)
    receiver.status = 200
    let_lease_lapse()
    post(message.pk)
    assert len(receiver.journal) == 1
    assert record().state == State.SUCCEEDED


def test_a_receiver_that_takes_it_and_hangs_up_has_it_once(either, webhook, let_lease_lapse):
    receiver, post = either
    message = webhook(receiver)
    receiver.trouble.faults[PATH] = Fault.HANG_UP
    with pytest.raises(Unknown, match="No answer: RemoteDisconnected"):
        post(message.pk)
    if not receiver.honours_key:
        with pytest.raises(AlreadyRunning, match="too early to ask"):
            post(message.pk)
    let_lease_lapse()
    post(message.pk)
    assert len(receiver.journal) == 1
    assert record().state == State.SUCCEEDED


def test_a_receiver_that_hangs_is_given_up_and_still_has_it_once(
    either, webhook, settings, let_lease_lapse
):
    receiver, post = either
    message = webhook(receiver)
    settings.WEBHOOK_TIMEOUT = 0.5
    receiver.trouble.hold(EVERYBODY)
    with pytest.raises(Unknown, match="No answer: TimeoutError"):
        post(message.pk)
    let_lease_lapse()
    # It is still at work: it answers 409 to the same key, and does not say that it did not happen.
    with pytest.raises(Unknown if receiver.honours_key else InDoubt, match=r"409|in doubt"):
        post(message.pk)
    receiver.trouble.release(EVERYBODY)
    wait_until(lambda: receiver.journal, "the receiver to be done")
    wait_until(lambda: not receiver.trouble.waiting, "the receiver to answer")
    post(message.pk)
    assert len(receiver.journal) == 1
    assert record().state == State.SUCCEEDED


def test_a_receiver_that_cannot_be_reached_leaves_no_doubt(either, webhook):
    receiver, post = either
    with Receiver() as gone:
        message = webhook(gone)
    with pytest.raises(Unavailable, match="No connection: ConnectionRefusedError"):
        post(message.pk)
    assert status(message) == Status.FAILED
    assert record().state == State.FAILED
    Message.objects.update(recipient=f"http://{receiver.host}{PATH}")
    post(message.pk)
    assert len(receiver.journal) == 1


def test_a_connection_that_cannot_be_made_safe_leaves_no_doubt(asked, webhook):
    message = webhook(asked)
    Message.objects.update(recipient=f"https://{asked.host}{PATH}")
    with pytest.raises(Unavailable, match="No connection: SSLError"):
        post_and_ask(message.pk)
    assert record().state == State.FAILED
    assert asked.seen == 0


def test_a_refused_repeat_does_not_deny_what_the_first_may_have_done(keyed, webhook):
    message = webhook(keyed)
    keyed.trouble.faults[PATH] = Fault.HANG_UP
    with pytest.raises(Unknown):
        post_with_key(message.pk)
    Message.objects.update(body="another")
    with pytest.raises(Refused, match="422"):
        post_with_key(message.pk)
    assert status(message) == Status.UNKNOWN
    assert record().effect_begun_at is not None
    assert len(keyed.journal) == 1


def test_the_repeat_of_a_webhook_ends_with_the_receivers_window(keyed, webhook):
    message = webhook(keyed)
    keyed.trouble.faults[PATH] = Fault.HANG_UP
    with pytest.raises(Unknown):
        post_with_key(message.pk)
    window = record().repeat_until - record().created_at
    assert 23 * 3600 < window.total_seconds() < 24 * 3600
    IdempotencyRecord.objects.update(repeat_until=record().created_at)
    with pytest.raises(InDoubt):
        post_with_key(message.pk)
    assert keyed.seen == 1


def test_a_webhook_that_was_changed_into_no_url_is_refused(keyed, webhook):
    message = webhook(keyed)
    Message.objects.update(recipient="ftp://hooks.example.com/")
    with pytest.raises(Refused):
        post_with_key(message.pk)
    assert record().state == State.FAILED


@pytest.mark.parametrize("trouble", [404, 429, 500, "hangs up", "is gone"])
def test_no_url_is_ever_logged_or_shown(either, webhook, caplog, trouble):
    receiver, post = either
    message = webhook(receiver)
    caplog.set_level("DEBUG")
    if isinstance(trouble, int):
        receiver.status = trouble
    elif trouble == "hangs up":
        receiver.trouble.faults[PATH] = Fault.HANG_UP
    else:
        receiver.stop()
    with pytest.raises((Refused, Unavailable, Unknown)) as raised:
        post(message.pk)
    status(message)
    said = f"{caplog.text} {raised.value!r} {raised.value.__cause__!r} {message.answer}"
    assert "s3cret" not in said
    assert receiver.host not in said


def test_the_channel_is_chosen_once_when_the_message_is_created(campaign, keyed, asked, settings):
    recipients = [f"http://{keyed.host}/", f"http://{asked.host}/", "anna@example.com"]
    recipients += ["https://promises.nothing.example/"]
    rows = [{"recipient": to, "subject": "S", "body": "B"} for to in recipients]
    create_messages(campaign.pk, 0, rows)
    settings.WEBHOOKS_HONOUR_KEY = set()
    channels = list(campaign.messages.order_by("pk").values_list("channel", flat=True))
    assert channels == [Channel.KEYED, Channel.ASKED, Channel.MAIL, Channel.ASKED]


def test_only_where_the_key_is_honoured_is_the_unknown_retried():
    assert post_with_key.autoretry_for == (Unavailable, Unknown)
    assert post_and_ask.autoretry_for == send_message.autoretry_for == (Unavailable,)


def test_a_url_is_no_mail_and_a_mail_no_url(campaign):
    for recipient in ("mailto:anna@example.com", "//hooks.example.com", "https://"):
        with pytest.raises(ValidationError):
            campaign.messages.create(recipient=recipient, subject="S", body="B").full_clean()
