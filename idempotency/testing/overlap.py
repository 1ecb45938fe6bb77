"""Deliveries at the same time, each on a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from django.db import connections

from idempotency.storage import server, storage_for
from idempotency.testing.child import refuse_memory
from idempotency.testing.deaths import CannotDeliver
from idempotency.testing.messages import Delivered, Message, catching
from idempotency.testing.watching import BEFORE_EFFECT, Watch, in_test_case, watching

#: Seconds to wait for the others, and for the end of each.
PATIENCE, LIFETIME = 20.0, 60.0


def deliver_concurrently(*messages: Message) -> list[Delivered]:
    """Deliver messages at the same time, each in a thread and on connections of its own.

    They overlap: the first one holds its key when the others come, and no body starts before every
    other delivery has looked at its key, or has ended. On SQLite, where there is one writer at a
    time, the others have been started by then, and wait. The same message may be given more than
    once.

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
            overlap.wait_for_a_holder()
        for thread in threads:
            thread.join(LIFETIME)
    for thread in threads:
        thread.release()
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
    """Brings the first delivery to its body, and lets no body start before every other delivery
    has looked at its key, or has ended."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._is_held = False
        self._looked: set[object] = set()
        self._changed = threading.Condition()
        self.failed = False

    def wait_for_a_holder(self) -> None:
        """Wait until a delivery has come to its body, or has ended."""
        with self._changed:
            self._expect(lambda: self._is_held)

    def hold(self) -> None:
        """Called before a body: wait until all others have looked."""
        with self._changed:
            self._is_held = True
            self._changed.notify_all()
            self._expect(lambda: len(self._looked) == self._number)

    def look(self, who: object) -> None:
        """This one has looked."""
        with self._changed:
            self._looked.add(who)
            self._changed.notify_all()

    def end(self, who: object) -> None:
        """This one has ended, whether it came to its body or not."""
        with self._changed:
            self._is_held = True
        self.look(who)

    def _expect(self, condition: Callable[[], bool]) -> None:
        if not self._changed.wait_for(condition, PATIENCE):
            self.failed = True


class Delivering(threading.Thread):
    """One of the deliveries."""

    def __init__(self, message: Message, overlap: Overlap) -> None:
        super().__init__(name=f"delivering {message}", daemon=True)
        self._message = message
        self._overlap = overlap
        self._redelivered = message.count()
        self._outcome: Delivered | BaseException | None = None
        self._connections: Sequence[Any] = ()
        # On SQLite the BEGIN before the look may wait already, for whoever writes.
        self._waits_to_look = storage_for(message.using).connection.vendor == "sqlite"

    def run(self) -> None:
        self._connections = connections.all()
        if self._waits_to_look:
            self._overlap.look(self)
        try:
            self._outcome = self._message.deliver_watched(
                Watch(self._meet), redelivered=self._redelivered
            )
        except BaseException as error:
            self._outcome = error
        finally:
            self._overlap.end(self)
            connections.close_all()

    def _meet(self, moment: str) -> None:
        if moment in ("after lock_and_look", "after claim"):
            self._overlap.look(self)
        elif moment == BEFORE_EFFECT:
            self._overlap.hold()

    def release(self) -> None:
        """End the transactions of a thread that did not end: a TransactionTestCase would wait for
        them when it empties the tables. On PostgreSQL; elsewhere nobody can."""
        if not self.is_alive():
            return
        for each in self._connections:
            if each.vendor == "postgresql" and each.connection is not None:
                server.end_backend(each.alias, each.connection.info.backend_pid)

    def outcome(self) -> Delivered:
        """What became of it; raises what is no outcome of a delivery."""
        if self._outcome is None:
            raise CannotDeliver(f"{self._message} was delivered, and did not end.")
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome
