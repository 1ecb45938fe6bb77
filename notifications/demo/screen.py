"""What the demo prints: two columns, one line per event, and a state that is kept up to date."""

import shutil
import sys
import time

WIDTH = 40
SECONDS_BETWEEN_STATES = 5


class Screen:
    """Writes plain lines; on a terminal the last line is redrawn in place."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._start = self._stated = time.monotonic()
        self._state = ""

    def say(self, text: str = "") -> None:
        """Whole lines."""
        self._erase()
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def heading(self, left: str, right: str) -> None:
        """The names of the columns."""
        self.say(f"{'':7}{left:<{WIDTH}} | {right}")

    def event(self, column: int, text: str) -> None:
        """A line in the left (0) or the right (1) column, after the seconds since the start."""
        cells = ["", ""]
        cells[column] = text
        self.say(self._line(*cells))

    def state(self, left: str, right: str) -> None:
        """How both lanes stand: redrawn in place, or every five seconds a line."""
        now, state = time.monotonic(), self._line(left, right)
        if self._live:
            self._erase()
            # A line that wraps could not be erased.
            self._state = state[: shutil.get_terminal_size().columns - 1]
            sys.stdout.write(self._state)
            sys.stdout.flush()
        elif now - self._stated >= SECONDS_BETWEEN_STATES:
            self.say(state)
            self._stated = now

    def _line(self, left: str, right: str) -> str:
        seconds = time.monotonic() - self._start
        return f"{seconds:5.1f}  {left:<{WIDTH}} | {right}".rstrip()

    def _erase(self) -> None:
        if self._state:
            sys.stdout.write("\r\x1b[K")
            self._state = ""
