"""What is done when an event says that an execution has completed."""

from typing import Any

from celery import shared_task
from django.core.mail import EmailMessage, get_connection

from idempotency import Leased, OnDoubt, current_attempt, idempotent
from tests.harness.gates import reach
from tests.story.models import Change, Execution

Event = dict[str, Any]
"""For example ``{"id": "evt-1", "type": "ExecutionCompleted", "execution": 7}``."""


def complete(event: Event) -> Event:
    """Two writes that belong together."""
    pk = event["execution"]
    reach("body")
    change = Change.objects.create(execution_id=pk, status="completed")
    reach("written")
    execution = Execution.objects.get(pk=pk)
    execution.status = "completed"
    execution.save()
    return {"execution": pk, "change": change.pk}


@shared_task
@idempotent(key="event.id")
def complete_execution(event: Event) -> Event:
    """The event's id alone says what is the same; the rest of the event is not compared."""
    return complete(event)


@shared_task
@idempotent(key="event.id", fingerprint="event.execution")
def complete_same_execution(event: Event) -> Event:
    """An id that comes again with another execution is refused."""
    return complete(event)


@shared_task
@idempotent(key="message_id")
def complete_by_message(message_id: str, event: Event) -> Event:
    """The id of the envelope: the sender's retries are one, two publications are two."""
    return complete(event)


@shared_task
@idempotent(key=("envelope.source", "envelope.detail.id"))
def complete_from_bus(envelope: Event) -> Event:
    """A whole EventBridge event; ids are unique within their source only."""
    return complete(envelope["detail"])


@shared_task
@idempotent(key="event.id", policy=Leased(on_doubt=OnDoubt.HOLD, marks_effect=True))
def notify(event: Event) -> None:
    """The mail that must not go out twice, with an id by which a copy could be known again."""
    attempt, connection = current_attempt(), get_connection()
    mail = EmailMessage(
        "Completed",
        f"Execution {event['execution']} has completed.",
        to=["anna@example.com"],
        headers={"Message-ID": f"<{attempt.provider_key}@story.example>"},
    )
    with connection:
        attempt.effect_begins()
        connection.send_messages([mail])
        reach("sent")
