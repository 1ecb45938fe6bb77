"""From the rows of a file to mails: one task per promise."""

from celery import shared_task

from idempotency import Leased, OnDoubt, current_attempt, idempotent
from notifications.mail import NotSent, Unavailable, build, open_connection, send
from notifications.models import Message, Status


@shared_task(acks_late=True, reject_on_worker_lost=True)
@idempotent(key=("campaign_id", "part"))
def create_messages(campaign_id: int, part: int, rows: list[dict[str, str]]) -> list[int]:
    """Create the messages of one part of a campaign, and return their ids.

    `Transactional`, the default: the messages and the record commit together, or not at all. The
    rows are no part of the key but are compared: the same part with other rows is refused.
    """
    messages = [Message(campaign_id=campaign_id, **row) for row in rows]
    return [message.pk for message in Message.objects.bulk_create(messages)]


@shared_task(acks_late=True, reject_on_worker_lost=True)
def enqueue_each(message_ids: list[int]) -> None:
    """Publish one message each. Not idempotent: published twice, each is still sent once.

    It is the next step of a chain, not an ``on_commit`` hook of `create_messages`: the result is
    replayed after a crash, so that this runs again, and a hook would be lost.
    """
    for message_id in message_ids:
        send_message.delay(message_id)


@shared_task(
    acks_late=True,
    reject_on_worker_lost=True,
    autoretry_for=(Unavailable,),  # never what is unknown: nothing is repeated blindly
    max_retries=8,
    retry_backoff=2,
    retry_backoff_max=30,  # seconds; below the broker's visibility timeout
)
@idempotent(
    key="message_id",
    policy=Leased(on_doubt=OnDoubt.HOLD, marks_effect=True, no_effect_errors=(NotSent,)),
)
def send_message(message_id: int) -> None:
    """Send one mail: once, or visibly unknown. SMTP has no "exactly once"."""
    message, attempt = Message.objects.get(pk=message_id), current_attempt()
    try:
        with open_connection() as connection:  # what fails up to here is certainly not sent
            mail = build(message, attempt.provider_key)
            message.show(Status.SENDING)
            attempt.effect_begins()  # from here on, a death is a doubt
            send(mail, connection)
            with attempt.settling():  # this row and the record commit together
                message.show(Status.SENT)
    except NotSent as reason:
        message.show(Status.FAILED, answer=str(reason))
        raise
