"""A mail server, the receivers of webhooks, and messages to send."""

from smtplib import SMTPServerDisconnected

import pytest
from django.utils import timezone

from idempotency.models import IdempotencyRecord
from notifications.demo.receiver import Receiver
from notifications.models import Campaign, Channel
from notifications.tasks import send_message
from tests.example.mail_server import MailServer

PATH = "/hooks/1?token=s3cret"


def status(message):
    message.refresh_from_db()
    return message.status


def record():
    return IdempotencyRecord.objects.get()


@pytest.fixture
def mail_server(settings):
    with MailServer() as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.host, server.port
        yield server


@pytest.fixture
def campaign():
    return Campaign.objects.create(name="July")


@pytest.fixture
def message(campaign):
    return campaign.messages.create(
        recipient="anna@example.com", subject="Grüße", body="Your order is on its way."
    )


@pytest.fixture
def doubtful(mail_server, message):
    """The message, after the server took its mail and hung up."""
    mail_server.hangs_up = True
    with pytest.raises(SMTPServerDisconnected):
        send_message(message.pk)
    mail_server.hangs_up = False
    return message


@pytest.fixture
def let_lease_lapse():
    """As if a lease had passed since the last sign of life."""
    held = IdempotencyRecord.objects.exclude(lease_expires_at=None)
    return lambda: held.update(lease_expires_at=timezone.now())


@pytest.fixture
def keyed(settings):
    """A receiver that honours the key."""
    with Receiver() as receiver:
        settings.WEBHOOKS_HONOUR_KEY = {receiver.host}
        yield receiver


@pytest.fixture
def asked(settings):
    """A receiver to which every POST is a new one, and that can be asked."""
    with Receiver(honours_key=False) as receiver:
        settings.WEBHOOKS_CAN_BE_ASKED = {receiver.host}
        yield receiver


@pytest.fixture
def webhook(campaign):
    """A webhook of a receiver: ``webhook(keyed)``."""

    def create(receiver):
        url = f"http://{receiver.host}{PATH}"
        return campaign.messages.create(
            recipient=url, channel=Channel.of(url), subject="Hello", body="Grüße"
        )

    return create
