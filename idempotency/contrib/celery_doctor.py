"""Whether the broker answers, and when it delivers again: ``idempotency_doctor --broker``."""

from __future__ import annotations

from threading import Thread

from celery import Celery, current_app

from idempotency.checks.findings import Found, finding
from idempotency.contrib.celery_checks.broker import (
    FORGETFUL,
    TRIED,
    UNFLAGGED,
    quotes_password,
    told,
    transport_of,
    visibility_timeout,
)
from idempotency.doctor import brokers


def examine_broker(timeout: float) -> Found:
    """Connect to the broker of the current Celery application, for ``timeout`` seconds at most."""
    app = current_app._get_current_object()  # type: ignore[attr-defined] # of a proxy
    answers: list[str | Exception] = []

    def connect() -> None:
        try:
            connection = app.connection_for_write(connect_timeout=timeout)
            # Redis, SQS and pgmq are asked by the channel only.
            connection.connect()
            connection.default_channel  # noqa: B018 it is made here
            connection.release()
            answers.append(_rule(app))
        except Exception as error:  # each transport has errors of its own
            answers.append(error)

    # Not every transport keeps to a timeout: a thread that is left behind ends with the process.
    thread = Thread(target=connect, name="idempotency-broker", daemon=True)
    thread.start()
    thread.join(timeout)
    answer = answers[0] if answers else TimeoutError(f"no answer within {timeout:.0f} s")
    if isinstance(answer, str):
        return [finding("I003", f"The broker{_url(app)} answers. {answer}", "")]
    return [
        finding(
            "E014",
            f"The broker{_url(app)} cannot be used: {told(app, answer)}",
            "Start it, or correct CELERY_BROKER_URL (the environment's, if there is one, wins "
            "over the setting). Install the client that its transport needs.",
        )
    ]


def _url(app: Celery) -> str:
    try:
        url = app.connection_for_write().as_uri()  # without its password
    except Exception:  # it cannot be read: the answer tells why
        return ""
    return "" if quotes_password(app, url) else f" {url}"


def _rule(app: Celery) -> str:
    transport, timeout = transport_of(app), visibility_timeout(app)
    if transport not in TRIED:
        return "When it delivers an unacknowledged message again is not known: it was not tried."
    if transport in FORGETFUL:
        return "It delivers nothing again when a worker dies."
    when = f"after {timeout:.0f} s" if timeout else "when the connection of its worker ends"
    flag = "does not say" if transport in UNFLAGGED else "says"
    return f"It delivers an unacknowledged message again {when}, and {flag} that it did."


brokers.append(examine_broker)
