"""The process that a fault strikes: it asks its parent at each moment whether to go on."""

import signal
from multiprocessing.connection import Connection
from typing import Any

from django.db import connections

from idempotency import execution, parking, transactional
from idempotency.testing.watching import Watch, watched_by, watching
from tests.crashes.situations import SITUATIONS, Files, Work


class Struck(Exception):
    """What a limit of time raises, anywhere: an Exception, as Celery's own is."""


#: Seconds, for a COMMIT without an answer to be over.
PATIENCE = 20.0

#: The body has ended and its outcome stands; the message is not acknowledged.
BEFORE_ACK = "before the ack"


def deliver(line: Connection, situation: str, work: Work, database: dict[str, Any]) -> None:
    """Deliver a message over the database given; send each moment, and the answer at the end."""
    connections.settings["default"].update(database)
    parking.broker = Files()
    transactional.LOST_COMMIT_WAIT = PATIENCE  # a slow machine is no fault

    def strike(*_: object) -> None:
        line.send(("struck", ""))
        raise Struck

    signal.signal(signal.SIGUSR1, strike)

    def meet(moment: str) -> None:
        line.send(("met", moment))
        if line.recv() == "raise":
            raise Struck(moment)

    with watching(), watched_by(Watch(meet)):
        answer = answer_of(situation, work)
    line.send(("answered", answer))
    line.recv()


def answer_of(situation: str, work: Work) -> str:
    """What a delivery says: ``ran``, ``replayed``, or the error that it raises."""
    try:
        # By its module, where it is watched.
        outcome = execution.run(SITUATIONS[situation].call(work))
    except Exception as error:
        return type(error).__name__
    return "replayed" if outcome.replayed else "ran"
