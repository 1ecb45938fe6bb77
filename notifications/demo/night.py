"""One bad night in five mails: what ``make serve`` shows, and what the tests settle in a browser.

Two workers' processes are killed in the middle of a mail. The mail server of this night cannot be
asked for a ``Message-ID``, so that both doubts wait for a person, who looks into its journal.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from django.utils import timezone

from idempotency.models import IdempotencyEvent, Kind, ParkedMessage
from notifications.demo.mailserver import MailServer
from notifications.demo.plan import Fault
from notifications.demo.workers import Worker
from notifications.models import Campaign, Message, Status
from notifications.tasks import send_message

ANNA = "anna@example.com"
"""Delivered twice at once: the second is deferred while the first sends, then answered."""
BEN = "ben@example.com"
"""Taken by the mail server when its sender is killed. Two deliveries wait for what is said."""
CLARA = "clara@example.com"
"""Not taken yet when its sender is killed."""
DAVID = "david@example.com"
"""Refused for good: certainly not sent."""
EMIL = "emil@example.com"
"""Refused for now, and sent by a second attempt, which takes over."""


class Night:
    """It falls on a mail server and a worker that run.

    Attributes:
        messages: By their recipient.
        task_ids: Of the deliveries of a recipient's message, in order.
    """

    def __init__(self, mail: MailServer, worker: Worker, queue: str) -> None:
        self.queue = queue
        self._mail = mail
        self._worker = worker
        mail.trouble.kill = self._kill
        mail.trouble.faults |= {BEN: Fault.KILL_AFTER, CLARA: Fault.KILL_BEFORE}
        mail.refusals |= {DAVID: "550 5.1.1 No such mailbox", EMIL: "451 4.7.1 Come back later"}
        self._campaign = Campaign.objects.create(name=f"The night of {timezone.now()}")
        self.messages: dict[str, Message] = {}
        self.task_ids: dict[str, list[str]] = {}

    def deliver(self, recipient: str) -> None:
        """Publish the one message of a recipient; once more, if it was published before."""
        if recipient not in self.messages:
            self.messages[recipient] = self._campaign.messages.create(
                recipient=recipient, subject="Your invoice", body="Please find it attached."
            )
        sent = send_message.apply_async((self.messages[recipient].pk,), queue=self.queue)
        self.task_ids.setdefault(recipient, []).append(sent.id)

    def fall(self, wait_until: Callable[[Callable[[], bool]], object]) -> None:
        """Send all of them, and wait until each has met its fate."""
        self._mail.trouble.hold(self._worker.pid)  # so that the second comes while the first runs
        self.deliver(ANNA)
        self.deliver(ANNA)
        wait_until(lambda: self._is_told(ANNA, Kind.DEFERRED))
        self._mail.trouble.release(self._worker.pid)
        wait_until(lambda: self._is_told(ANNA, Kind.DUPLICATE))  # a child that is killed forgets it
        for recipient in (BEN, BEN, CLARA, DAVID, EMIL):
            self.deliver(recipient)
        wait_until(self._is_over)

    def _is_over(self) -> bool:
        doubtful = self.task_ids[BEN] + self.task_ids[CLARA]
        fates = [self.status(recipient) for recipient in (ANNA, DAVID, EMIL)]
        parked = ParkedMessage.objects.filter(task_id__in=doubtful).count()
        return fates == [Status.SENT, Status.FAILED, Status.SENT] and parked == len(doubtful)

    def _is_told(self, recipient: str, kind: Kind) -> bool:
        told = IdempotencyEvent.objects.filter(kind=kind, task_id__in=self.task_ids[recipient])
        return told.exists()

    def status(self, recipient: str) -> str:
        """What is known of the message of a recipient."""
        return Message.objects.get(pk=self.messages[recipient].pk).status

    def _kill(self, pid: int) -> bool:
        if self._worker.owns(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return True
        return False
