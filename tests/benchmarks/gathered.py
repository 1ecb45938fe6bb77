"""The events of duplicates, which wait for a second in the process that is measured."""

from collections.abc import Iterator
from contextlib import contextmanager

from idempotency import events


def write_gathered() -> None:
    """Write them while the database is still where it is."""
    events.write_at_end()
    events._gathered.begin_anew()


@contextmanager
def held() -> Iterator[None]:
    """None is written within the block: a second's events are written together, whatever their
    number, so that they are no part of what one call costs."""
    write_gathered()
    usual, events.GATHER_FOR = events.GATHER_FOR, 3600.0
    try:
        yield
    finally:
        events.GATHER_FOR = usual
        write_gathered()
