"""The plain lane: the same gateways in a Celery task as it is commonly written."""

import os
from smtplib import SMTPException
from urllib.parse import urlsplit
from uuid import uuid4

from celery import shared_task
from celery.signals import worker_process_init
from django.conf import settings
from django.core.mail import DNS_NAME

from notifications import mail, webhook
from notifications.answers import Unavailable, Unknown
from notifications.models import Channel, Message

PLAIN_QUEUE = "plain"


@shared_task(
    acks_late=True,
    reject_on_worker_lost=True,
    autoretry_for=(SMTPException, ConnectionError, Unavailable, Unknown),
    retry_backoff=True,
)
def send_plainly(message_id: int) -> None:
    """Send one message, as often as this is delivered."""
    message = Message.objects.get(pk=message_id)
    if message.channel != Channel.MAIL:
        message.recipient = _in_this_lane(message)
    gateway = mail.ready if message.channel == Channel.MAIL else webhook.ready
    with gateway(message, uuid4()) as send:
        send()


def _in_this_lane(message: Message) -> str:
    """The same webhook of this lane's own receiver."""
    keyed = message.channel == Channel.KEYED
    [host] = settings.WEBHOOKS_HONOUR_KEY if keyed else settings.WEBHOOKS_CAN_BE_ASKED
    return urlsplit(message.recipient)._replace(netloc=host).geturl()


@worker_process_init.connect
def introduce_by_process_id(**_: object) -> None:
    """Let the mail server know which process is talking: by the name that it greets with."""
    DNS_NAME._fqdn = f"pid-{os.getpid()}"  # Django keeps the name there
