"""The plain lane: the same mail code in a Celery task as it is commonly written."""

import os
from smtplib import SMTPException
from uuid import uuid4

from celery import shared_task
from celery.signals import worker_process_init
from django.core.mail import DNS_NAME

from notifications.mail import Unavailable, build, open_connection, send
from notifications.models import Message

PLAIN_QUEUE = "plain"


@shared_task(
    acks_late=True,
    reject_on_worker_lost=True,
    autoretry_for=(SMTPException, ConnectionError, Unavailable),
    retry_backoff=True,
)
def send_plainly(message_id: int) -> None:
    """Send one mail, as often as this is delivered."""
    mail = build(Message.objects.get(pk=message_id), uuid4())
    with open_connection() as connection:
        send(mail, connection)


@worker_process_init.connect
def introduce_by_process_id(**_: object) -> None:
    """Let the mail server know which process is talking: by the name that it greets with."""
    DNS_NAME._fqdn = f"pid-{os.getpid()}"  # Django keeps the name there
