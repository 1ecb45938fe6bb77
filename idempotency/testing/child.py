"""A delivery in a process of its own, which is killed at a moment of it.

It is started, not forked: a connection to a database cannot be shared with a child.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core import mail
from django.db import connections

from idempotency.digests import Key
from idempotency.storage import storage_for
from idempotency.testing.deaths import CannotDeliver, Death

if TYPE_CHECKING:
    from idempotency.testing.messages import Message

#: Seconds for the child's whole life, and for the server to notice its end.
LIFETIME, AFTERLIFE = 60.0, 20.0

SETTINGS = "DJANGO_SETTINGS_MODULE"


@dataclass(frozen=True, slots=True)
class Report:
    """What the child knew at its end."""

    struck: str | None
    met: int
    key: Key | None
    using: str
    history: list[str]
    mails: list[Any]


def die(message: Message, death: Death) -> None:
    """Deliver a message in a process that ``death`` strikes, and wait until that is over.

    Raises:
        CannotDeliver: The child cannot be given the task or the database, or it failed.
    """
    if SETTINGS not in os.environ:
        raise CannotDeliver(
            f"The process that is to die reads the settings by {SETTINGS}, and it is not set here. "
            "Set it, or let this test run in a TestCase: there the death is simulated."
        )
    refuse_memory(message.using)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "databases").write_bytes(_pickled_databases())
        (folder / "delivery").write_bytes(_pickled(message, death))
        report = _ended(folder)
    message.deliveries += 1
    message.key, message.using, message.history = report.key, report.using, report.history
    death.struck, death.met = report.struck, report.met
    getattr(mail, "outbox", []).extend(report.mails)
    if report.key is not None:
        _wait_for_release(report.key, report.using)


def _pickled_databases() -> bytes:
    """What the test run may have changed: the name of each, a port, a role, an option."""
    try:
        return pickle.dumps({alias: connections[alias].settings_dict for alias in connections})
    except Exception as error:
        raise CannotDeliver(
            f"DATABASES cannot be given to another process ({error}): all in it has to be "
            "picklable. Or let this test run in a TestCase: there the death is simulated."
        ) from error


def _pickled(message: Message, death: Death) -> bytes:
    try:
        return pickle.dumps((message, death))
    except Exception as error:
        raise CannotDeliver(
            f"{message} cannot be given to another process ({error}). Its task has to be at the "
            "top of a module that can be imported, and its arguments have to be picklable. Or let "
            "this test run in a TestCase: there the death is simulated."
        ) from error


def refuse_memory(alias: str) -> None:
    """Raise CannotDeliver if nobody else can reach this database."""
    connection: Any = connections[alias]  # only SQLite's can tell
    if connection.vendor == "sqlite" and connection.is_in_memory_db():
        raise CannotDeliver(
            f"The database {alias!r} is in the memory of this process, and no other reaches it. "
            f"Give it a file: DATABASES[{alias!r}]['TEST']['NAME']. Or let this test run in a "
            "TestCase, where a death is simulated."
        )


def _ended(folder: Path) -> Report:
    # A file and no pipe: whatever the task started may hold a pipe open for longer than it lives.
    said, told = folder / "said", folder / "report"
    with said.open("wb") as output:
        ran = subprocess.Popen(  # noqa: S603 this very Python, and a module of ours
            [sys.executable, "-m", "idempotency.testing.dying", str(folder)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        ran.wait(LIFETIME)
        end = f"came to another end ({ran.returncode})"
    except subprocess.TimeoutExpired:
        end = f"did not end within {LIFETIME:g} s"
    finally:
        _end_group(ran)
    if ran.returncode not in (0, -signal.SIGKILL) or not told.exists():
        raise CannotDeliver(
            f"The process that was to die {end}. It said:\n{said.read_text(errors='replace')}"
        )
    report: Report = pickle.loads(told.read_bytes())  # noqa: S301 our own child wrote it
    return report


def _end_group(leader: subprocess.Popen[bytes]) -> None:
    """End the child, and what it has started."""
    with suppress(ProcessLookupError):  # nobody is left
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()


def _wait_for_release(key: Key, using: str) -> None:
    """A server notices a moment later that a client is gone, and holds the key till then."""
    storage = storage_for(using)
    deadline = time.monotonic() + AFTERLIFE
    while True:
        with storage.transaction():
            if storage.lock_and_look(key).locked:
                return
        if time.monotonic() > deadline:
            raise CannotDeliver(f"The key of a dead process is held for {AFTERLIFE:g} s already.")
        time.sleep(0.01)
