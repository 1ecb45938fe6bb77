"""The process that is to die: ``python -m idempotency.testing.dying FOLDER``."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
from pathlib import Path

import django
from django.db import connections


def main(folder: Path) -> None:
    """Take the test's databases, and only then let anything reach one."""
    for alias, name in json.loads((folder / "databases").read_text()).items():
        connections.settings[alias]["NAME"] = name
    django.setup()
    _deliver(folder)


def _deliver(folder: Path) -> None:
    # Not before Django is set up.
    from idempotency.testing.child import Report
    from idempotency.testing.messages import catching
    from idempotency.testing.watching import Watch, watching

    message, death = pickle.loads((folder / "delivery").read_bytes())  # noqa: S301 our parent's

    def report() -> None:
        ended = Report(death.struck, death.met, watch.key, watch.using, message.history)
        (folder / "report").write_bytes(pickle.dumps(ended))

    def meet(moment: str) -> None:
        if death.strikes_at(moment):
            report()
            os.kill(os.getpid(), signal.SIGKILL)

    watch = Watch(meet)
    with watching(), catching(message):
        message.deliver_watched(watch, redelivered=message.count())
    report()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
