"""Deliveries at the same time, each on a connection of its own."""

from __future__ import annotations

import threading

from django.db import connections

from idempotency.storage import storage_for
from idempotency.testing.child import refuse_memory
from idempotency.testing.deaths import CannotDeliver
from idempotency.testing.messages import Delivered, Message, catching
from idempotency.testing.watching import BEFORE_EFFECT, Watch, in_test_case, watching

#: Seconds to wait for the others, and for the end of all.
PATIENCE = 20.0


def deliver_concurrently(*messages: Message) -> list[Delivered]:
    """Deliver messages at the same time, each in a thread and on connections of its own.

    They overlap: a body does not start before every other delivery has looked at its key, or has
    ended; on SQLite, where there is one writer at a time, before every other has been started. The
    same message may be given more than once.

    Returns what became of each, in the order of the messages.

    Raises:
        CannotDeliver: Inside a ``TestCase`` the other connections would see nothing of this test;
            or a delivery did not end, or did not overlap with another.
    """
    for using in {message.using for message in messages}:
        _refuse_open_transaction(using)
    overlap = Overlap(len(messages))
    threads = [Delivering(message, overlap) for message in messages]
    with watching(), catching(*messages):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE * 2)
    delivered = [thread.outcome() for thread in threads]
    if overlap.failed:
        raise CannotDeliver(
            f"The {len(messages)} deliveries did not overlap: while one held its key, another had "
            f"not looked at its own within {PATIENCE:g} s."
        )
    return delivered


def _refuse_open_transaction(using: str) -> None:
    refuse_memory(using)
    if in_test_case() or storage_for(using).connection.in_atomic_block:
        raise CannotDeliver(
            "Deliveries at the same time need connections of their own, and those see nothing of "
            "what this test's transaction has not committed. Use TransactionTestCase, or "
            "@pytest.mark.django_db(transaction=True)."
        )


class Overlap:
    """Lets no body start before every other delivery has looked at its key, or has ended."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._arrived: set[object] = set()
        self._changed = threading.Condition()
        self.failed = False

    def arrive(self, who: object) -> None:
        with self._changed:
            self._arrived.add(who)
            self._changed.notify_all()

    def wait(self) -> None:
        with self._changed:
            if not self._changed.wait_for(self._is_complete, PATIENCE):
                self.failed = True

    def _is_complete(self) -> bool:
        return len(self._arrived) == self._number


class Delivering(threading.Thread):
    """One of the deliveries."""

    def __init__(self, message: Message, overlap: Overlap) -> None:
        super().__init__(name=f"delivering {message}", daemon=True)
        self._message = message
        self._overlap = overlap
        self._redelivered = message.count()
        self._outcome: Delivered | BaseException | None = None
        # On SQLite the BEGIN before the look may wait already, for whoever writes.
        self._waits_to_look = storage_for(message.using).connection.vendor == "sqlite"

    def run(self) -> None:
        if self._waits_to_look:
            self._overlap.arrive(self)
        try:
            self._outcome = self._message.deliver_watched(
                Watch(self._meet), redelivered=self._redelivered
            )
        except BaseException as error:
            self._outcome = error
        finally:
            self._overlap.arrive(self)
            connections.close_all()

    def _meet(self, moment: str) -> None:
        if moment == "after lock_and_look":
            self._overlap.arrive(self)
        elif moment == BEFORE_EFFECT:
            self._overlap.wait()

    def outcome(self) -> Delivered:
        """What became of it; raises what is no outcome of a delivery."""
        if self._outcome is None:
            raise CannotDeliver(f"{self._message} was delivered, and did not end.")
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome
