"""A mail server, and a message to send."""

from smtplib import SMTPServerDisconnected

import pytest

from notifications.models import Campaign
from notifications.tasks import send_message
from tests.example.mail_server import MailServer


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
