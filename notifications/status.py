"""What the body of a sending task cannot show, because it did not run or was cut off.

A delivery that finds a doubt does not run the body; nor does the replay after somebody, or who was
asked, resolved the doubt with "it happened".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from celery import Task
from celery.signals import task_postrun
from celery.states import FAILURE, SUCCESS

from notifications.models import Message, Status
from notifications.tasks import SENDERS


@task_postrun.connect
def show_how_it_ended(
    *,
    task: Task[..., object],
    args: Iterable[int],
    kwargs: Mapping[str, int],
    state: str,
    retval: object,
    **_: object,
) -> None:
    """Write the status of the message when its delivery ends."""
    if task.name not in {sender.name for sender in SENDERS.values()}:
        return
    [message_id] = [*args, *kwargs.values()]
    for message in Message.objects.filter(pk=message_id).exclude(status=Status.SENT):
        if state == SUCCESS:
            message.show(Status.SENT)
        elif state == FAILURE and message.status == Status.SENDING:
            message.show(Status.UNKNOWN, answer=str(retval))
