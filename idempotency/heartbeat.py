"""A lease renewed on a connection of its own while the process lives."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType

from django.db import DatabaseError, InterfaceError

from idempotency.querysets import Claim
from idempotency.storage import storage_for

logger = logging.getLogger("idempotency")

#: Seconds to wait for the thread to end.
PATIENCE = 1.0


class Heartbeat:
    """Renews a claim's lease in a thread, which ends with the block: none is left behind, and a
    forked child has none. Nothing is sent before half a lease has passed.

    Args:
        max_run: Seconds after which it stops renewing, so that a hung body becomes visible.
    """

    def __init__(self, using: str, claim: Claim, *, max_run: float) -> None:
        self._using = using
        self._claim = claim
        self._max_run = max_run
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._beat, name="idempotency-heartbeat", daemon=True
        )

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        # A renewal under way may wait for the server: it ends by itself, and the job need not.
        self._thread.join(timeout=PATIENCE)

    def _beat(self) -> None:
        storage = storage_for(self._using)
        lease = self._claim.lease.total_seconds()
        stop_at = time.monotonic() + self._max_run
        pause = lease / 2
        try:
            while not self._ended.wait(pause) and time.monotonic() < stop_at:
                try:
                    if not storage.renew(self._claim):
                        return  # settled, or lost: the body is told by its next step
                    pause = lease / 2
                except (DatabaseError, InterfaceError):
                    logger.warning("A lease could not be renewed.", exc_info=True)
                    storage.connection.close()
                    pause = lease / 10
        finally:
            storage.connection.close()
