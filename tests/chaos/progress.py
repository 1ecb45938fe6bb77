"""How long a storm that is over is waited for: not by the clock, but while it comes to an end."""

import time

#: Seconds without progress: longer than a worker sleeps, or the sweeper is waited for.
PATIENCE = 180


class Progress:
    """Whether something still gets better, however long all of it takes."""

    def __init__(self) -> None:
        self._least: tuple[int, ...] | None = None
        self._since = time.monotonic()

    def has_ended(self, *left: int) -> bool:
        """Whether so little was left for as long as anybody waits, and never less."""
        if self._least is None or left < self._least:
            self._least, self._since = left, time.monotonic()
        return time.monotonic() - self._since > PATIENCE
