"""From the rows of a file to messages that are sent: one task per promise."""

from __future__ import annotations  # Celery 5.4: a Task class takes no parameters at run time

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery import Task, shared_task

from idempotency import Leased, OnDoubt, current_attempt, idempotent
from notifications import mail, webhook
from notifications.answers import NotSent, Unavailable, Unknown
from notifications.asking import ask_mail_server, ask_receiver
from notifications.models import Channel, Message, Status

Gateway = Callable[[Message, UUID], AbstractContextManager[Callable[[], None]]]


@shared_task(acks_late=True, reject_on_worker_lost=True)
@idempotent(key=("campaign_id", "part"))
def create_messages(campaign_id: int, part: int, rows: list[dict[str, str]]) -> list[int]:
    """Create the messages of one part of a campaign, and return their ids.

    `Transactional`, the default: the messages and the record commit together, or not at all. The
    rows are no part of the key but are compared: the same part with other rows is refused.
    """
    messages = [
        Message(campaign_id=campaign_id, channel=Channel.of(row["recipient"]), **row)
        for row in rows
    ]
    return [message.pk for message in Message.objects.bulk_create(messages)]


@shared_task(acks_late=True, reject_on_worker_lost=True)
def enqueue_each(message_ids: list[int]) -> None:
    """Publish one message each. Not idempotent: published twice, each is still sent once.

    It is the next step of a chain, not an ``on_commit`` hook of `create_messages`: the result is
    replayed after a crash, so that this runs again, and a hook would be lost.
    """
    messages = Message.objects.filter(pk__in=message_ids).order_by("pk")
    for message_id, channel in messages.values_list("pk", "channel"):
        SENDERS[Channel(channel)].delay(message_id)


_LATE: dict[str, Any] = {
    "acks_late": True,
    "reject_on_worker_lost": True,
    "time_limit": 45,  # seconds; a gateway gives up long before
    "max_retries": 8,
    "retry_backoff": 2,
    "retry_backoff_max": 30,  # seconds; below the broker's visibility timeout
}


# Never retried is what is unknown: nothing is repeated blindly.
@shared_task(autoretry_for=(Unavailable,), **_LATE)
@idempotent(
    key="message_id",
    policy=Leased(on_doubt=ask_mail_server, marks_effect=True, no_effect_errors=(NotSent,)),
)
def send_message(message_id: int) -> None:
    """Send one mail: once, or visibly unknown. SMTP has no "exactly once"."""
    _send(message_id, mail.ready)


@shared_task(autoretry_for=(Unavailable,), **_LATE)
@idempotent(
    key="message_id",
    policy=Leased(on_doubt=ask_receiver, marks_effect=True, no_effect_errors=(NotSent,)),
)
def post_and_ask(message_id: int) -> None:
    """Call one webhook: once, or visibly unknown, until its receiver tells what became of it."""
    _send(message_id, webhook.ready)


# Here the unknown is repeated: the receiver knows the repeat by its key.
@shared_task(autoretry_for=(Unavailable, Unknown), **_LATE)
@idempotent(
    key="message_id",
    policy=Leased(
        on_doubt=OnDoubt.RETRY,
        provider_window=timedelta(hours=24),
        marks_effect=True,
        no_effect_errors=(NotSent,),
    ),
)
def post_with_key(message_id: int) -> None:
    """Call one webhook, at least once, whose receiver honours the ``Idempotency-Key``."""
    _send(message_id, webhook.ready, repeats=True)


SENDERS: Mapping[Channel, Task[..., None]] = {
    Channel.MAIL: send_message,
    Channel.ASKED: post_and_ask,
    Channel.KEYED: post_with_key,
}


def _send(message_id: int, gateway: Gateway, *, repeats: bool = False) -> None:
    """Send one message, and show what is known of it."""
    message, attempt = Message.objects.get(pk=message_id), current_attempt()
    # A refusal now says nothing about an attempt before, of which nobody has told.
    before = repeats and message.status in (Status.SENDING, Status.UNKNOWN)
    try:
        with gateway(message, attempt.provider_key) as send:  # fails here: certainly not sent
            message.show(Status.SENDING)
            attempt.effect_begins()  # from here on, a death is a doubt
            send()
            with attempt.settling():  # this row and the record commit together
                message.show(Status.SENT)
    except NotSent as reason:
        message.show(Status.UNKNOWN if before else Status.FAILED, answer=str(reason))
        raise
