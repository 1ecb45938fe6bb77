"""The work of a storm: one tiny task for each promise, and what each process notes of it.

Every task may be a message of its own, a member of a chord, the step of a chain or the body of a
chord: ``previous`` is what came from the step before.
"""

import json
import os
import signal
import smtplib
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from celery import Task, shared_task
from celery.signals import (
    after_task_publish,
    before_task_publish,
    task_failure,
    task_postrun,
    task_prerun,
    worker_ready,
)
from django.db import DatabaseError

from idempotency import Leased, OnDoubt, Verdict, current_attempt, idempotent
from idempotency.exceptions import KeyReused
from idempotency.policies import Doubt
from tests.chaos.journal import DELIVERED, ENDED, PUBLISHED, READY, REUSED, STRUCK, note
from tests.jobs.models import Effect

LATE: dict[str, Any] = {
    "acks_late": True,
    "reject_on_worker_lost": True,
    "max_retries": None,
    "default_retry_delay": 1,
}
SECONDS = 10


class NotReady(Exception):
    """There is no connection: certainly no effect."""


def written(key: str, previous: Any) -> None:
    """One row. Nothing is unique there: the number of rows is what is counted."""
    Effect.objects.create(key=key, note=json.dumps(previous), pid=os.getpid())


@shared_task(**LATE)
@idempotent(key="key")
def write(previous: Any = None, *, key: str) -> str:
    """Transactional: a row."""
    reach(key, "body")
    written(key, previous)
    reach(key, "effect")
    return key


@shared_task(autoretry_for=(NotReady,), **LATE)
@idempotent(key="key", policy=Leased(on_doubt=OnDoubt.HOLD, marks_effect=True))
def mail(previous: Any = None, *, key: str) -> str:
    """HOLD: a mail. Whoever accepts it knows nothing of a repeat."""
    reach(key, "body")
    try:
        server = smtplib.SMTP(
            "127.0.0.1",
            int(os.environ["STORM_MAIL"]),
            local_hostname=f"pid-{os.getpid()}",
            timeout=SECONDS,
        )
    except OSError as error:
        raise NotReady from error
    try:
        current_attempt().effect_begins()
        message = f"Message-ID: <{current_attempt().provider_key}>\r\n\r\n{key}"
        server.sendmail("storm@example.com", [f"{key}@example.com"], message)
    finally:
        server.close()
    reach(key, "effect")
    with current_attempt().settling(key):
        written(key, previous)
    return key


@shared_task(autoretry_for=(NotReady, OSError, HTTPException, DatabaseError), **LATE)
@idempotent(
    key="key",
    policy=Leased(on_doubt=OnDoubt.RETRY, provider_window=timedelta(days=1), marks_effect=True),
)
def post(previous: Any = None, *, key: str) -> str:
    """RETRY: a POST to a receiver that knows a repeat by its key."""
    return _post(os.environ["STORM_KEYED"], key, previous)


def ask(doubt: Doubt) -> Verdict:
    """Ask the receiver. Before the longest sleep of a worker is over, *not found* says nothing: one
    that was frozen right before its POST may still send it."""
    if doubt.arguments is None:
        return Verdict.unknown()
    connection = HTTPConnection(os.environ["STORM_ASKED"], timeout=SECONDS)
    try:
        connection.request("GET", f"/{doubt.provider_key}")
        found = json.loads(connection.getresponse().read())["found"]
    finally:
        connection.close()
    if found:
        return Verdict.happened(doubt.arguments["key"])
    patience = timedelta(seconds=float(os.environ["STORM_PATIENCE"]))
    is_over = datetime.now(UTC) - doubt.begun_at > patience
    return Verdict.did_not_happen() if is_over else Verdict.unknown()


@shared_task(autoretry_for=(NotReady,), **LATE)
@idempotent(key="key", policy=Leased(on_doubt=ask, marks_effect=True))
def tell(previous: Any = None, *, key: str) -> str:
    """ask: a POST to a receiver that knows no repeat, and can be asked."""
    return _post(os.environ["STORM_ASKED"], key, previous)


def _post(host: str, key: str, previous: Any) -> str:
    reach(key, "body")
    connection = HTTPConnection(host, timeout=SECONDS)
    try:
        try:
            connection.connect()
        except OSError as error:
            raise NotReady from error
        current_attempt().effect_begins()
        connection.request("POST", f"/{key}", b"{}", _headers(current_attempt().provider_key))
        status = connection.getresponse().status
    finally:
        connection.close()
    if status != 200:
        raise HTTPException(f"{status}")
    reach(key, "effect")
    with current_attempt().settling(key):
        written(key, previous)
    return key


def _headers(provider_key: UUID) -> dict[str, str]:
    return {"Idempotency-Key": str(provider_key), "User-Agent": f"storm pid-{os.getpid()}"}


TASKS = {"transactional": write, "HOLD": mail, "RETRY": post, "ask": tell}


# -- faults that strike a process at a named place, once ------------------------------------------


def reach(key: str, place: str) -> None:
    """Suffer here what the storm has ordered for this key; the order is a file, taken once."""
    order = Path(os.environ["STORM"]) / "orders" / f"{key}@{place}"
    try:
        fault = order.read_text()
        order.unlink()
    except FileNotFoundError:
        return
    note(STRUCK, key, f"{fault} {place}", os.getpid())
    if fault == "kill worker":
        os.killpg(0, signal.SIGKILL)
    elif fault == "freeze process":
        os.kill(os.getpid(), signal.SIGSTOP)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


# -- what is noted of each message ----------------------------------------------------------------


@before_task_publish.connect
def name_copy(headers: dict[str, Any], **_: Any) -> None:
    """A deferral, a retry and a next step are published too: each is a copy of its own."""
    headers["storm_copy"] = uuid4().hex


@after_task_publish.connect
def note_publication(headers: dict[str, Any], body: Any, **_: Any) -> None:
    """The broker has taken it."""
    if key := body[1].get("key"):
        note(PUBLISHED, headers["storm_copy"], key, headers["root_id"] or headers["id"])


@task_prerun.connect
def note_delivery(task: Task, kwargs: dict[str, Any], **_: Any) -> None:
    if key := kwargs.get("key"):
        root = task.request.root_id or task.request.id
        note(DELIVERED, task.request.get("storm_copy"), key, root, os.getpid())
        reach(key, "delivery")


@task_failure.connect
def note_refusal(exception: BaseException, kwargs: dict[str, Any], **_: Any) -> None:
    """Whoever comes with the key of a step comes from the same step before it."""
    if isinstance(exception, KeyReused):
        note(REUSED, kwargs["key"])


@task_postrun.connect
def note_end(task: Task, kwargs: dict[str, Any], state: str | None, **_: Any) -> None:
    """Committed and answered, and not yet acknowledged."""
    if key := kwargs.get("key"):
        reach(key, "end")
        copy = task.request.get("storm_copy")
        note(ENDED, copy, key, task.__name__, state, os.getpid())


@worker_ready.connect
def note_ready(**_: Any) -> None:
    note(READY)
