"""A delivery in a process of its own, which is killed at a moment of it.

It is started, not forked: a connection to a database cannot be shared with a child.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
        (folder / "databases").write_text(json.dumps(names))
        (folder / "delivery").write_bytes(_pickled(message, death))
        report = _ended(folder)
    message.deliveries += 1
    message.key, message.using, message.history = report.key, report.using, report.history
    death.struck, death.met = report.struck, report.met
    if report.key is not None:
        _wait_for_release(report.key, report.using)


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
    ran = subprocess.Popen(  # noqa: S603 this very Python, and a module of ours
        [sys.executable, "-m", "idempotency.testing.dying", str(folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = ran.communicate(timeout=LIFETIME)
    except subprocess.TimeoutExpired:
        ran.kill()
        said = f"It did not end within {LIFETIME:g} s.\n{ran.communicate()[0]}"
    told = folder / "report"
    if ran.returncode not in (0, -signal.SIGKILL) or not told.exists():
        raise CannotDeliver(
            f"The process that was to die came to another end ({ran.returncode}). It said:\n{said}"
        )
    report: Report = pickle.loads(told.read_bytes())  # noqa: S301 our own child wrote it
    return report


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
