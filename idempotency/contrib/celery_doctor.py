"""Whether the broker answers, and when it delivers again: ``idempotency_doctor --broker``."""

from __future__ import annotations

from threading import Thread

from celery import Celery, current_app

from idempotency.checks.findings import Found, finding, first_line
from idempotency.contrib.celery_checks.broker import (
    FORGETFUL,
    UNFLAGGED,
    transport_of,
    visibility_timeout,
)
from idempotency.doctor import brokers


def examine_broker(timeout: float) -> Found:
    """Connect to the broker of the current Celery application, for ``timeout`` seconds at most."""
    app = current_app._get_current_object()  # type: ignore[attr-defined] # of a proxy
    connection = app.connection_for_write(connect_timeout=timeout)
    answers: list[Exception | None] = []

    def connect() -> None:
        try:
            # Redis, SQS and pgmq are asked by the channel only.
            connection.connect()
            connection.default_channel  # noqa: B018 it is made here
            answers.append(None)
        except Exception as error:  # each transport has errors of its own
            answers.append(error)

    # Not every transport keeps to a timeout: a thread that is left behind ends with the process.
    thread = Thread(target=connect, name="idempotency-broker", daemon=True)
    thread.start()
    thread.join(timeout)
    error = answers[0] if answers else TimeoutError(f"no answer within {timeout:.0f} s")
    url = connection.as_uri()  # without its password
    if error is not None:
        return [
            finding(
                "E014",
                f"The broker {url} cannot be reached: {first_line(error)}",
                "Start it, or correct CELERY_BROKER_URL (the environment's, if there is one, "
                "wins over the setting).",
            )
        ]
    connection.release()
    return [finding("I003", f"The broker {url} answers. {_rule(app)}", "")]


def _rule(app: Celery) -> str:
    transport, timeout = transport_of(app), visibility_timeout(app)
    if transport in FORGETFUL:
        return "It delivers nothing again when a worker dies."
    when = f"after {timeout:.0f} s" if timeout else "when the connection of its worker ends"
    flag = "does not say" if transport in UNFLAGGED else "says"
    return f"It delivers an unacknowledged message again {when}, and {flag} that it did."


brokers.append(examine_broker)
