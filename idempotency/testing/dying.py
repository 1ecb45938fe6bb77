"""The process that is to die: ``python -m idempotency.testing.dying FOLDER``."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import django
from django.core import mail
from django.db import connections
from django.test.utils import setup_test_environment


def main(folder: Path) -> None:
    """Take the test's databases, and only then let anything reach one."""
    databases = pickle.loads((folder / "databases").read_bytes())  # noqa: S301 our parent's
    connections.settings.update(databases)
    django.setup()
    setup_test_environment(debug=False)  # mail stays here, as it does in the test
    _deliver(folder)


def _deliver(folder: Path) -> None:
    # Not before Django is set up.
    from idempotency.testing.child import Report
    from idempotency.testing.messages import catching
    from idempotency.testing.tracing import publishing_nothing
    from idempotency.testing.watching import Watch, watching

    message, death = pickle.loads((folder / "delivery").read_bytes())  # noqa: S301 our parent's

    def report() -> None:
        mails: list[Any] = vars(mail)["outbox"]
        ended = Report(death.struck, death.met, watch.key, watch.using, message.history, mails)
        (folder / "report").write_bytes(pickle.dumps(ended))

    def meet(moment: str) -> None:
        if death.strikes_at(moment):
            report()
            os.kill(os.getpid(), signal.SIGKILL)

    watch = Watch(meet)
    with watching(), publishing_nothing(), catching(message):
        message.deliver_watched(watch, redelivered=message.count())
    report()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
