"""Tasks as a user writes them; a process that is to die imports them from here."""

import os
import subprocess
import sys
import threading
from pathlib import Path

from celery import shared_task
from celery.exceptions import Ignore, Reject
from django.conf import settings
from django.core import mail as mails
from django.db import connection

from idempotency import TASK_ID, Leased, OnDoubt, Verdict, current_attempt, execute, idempotent
from tests.jobs.models import Effect

LATE = {"acks_late": True, "reject_on_worker_lost": True}
MARKED = Leased(on_doubt=OnDoubt.HOLD, marks_effect=True, no_effect_errors=(KeyError,))


def effect(key, note="effect"):
    Effect.objects.create(key=str(key), note=note, pid=os.getpid())
    return f"{note} of {key}"


@shared_task(**LATE)
@idempotent(key="order_id", scope="testing.ship")
def ship(order_id, fails=False):
    effect(order_id)
    if fails:
        raise ValueError("no such street")
    return [order_id, "shipped"]


@shared_task(**LATE)
@idempotent(key="order_id", scope="testing.charge", policy=Leased(on_doubt=OnDoubt.HOLD))
def charge(order_id):
    return effect(order_id)


@shared_task(**LATE)
@idempotent(key="order_id", scope="testing.mail", policy=MARKED)
def mail(order_id):
    effect(order_id, "prepared")
    current_attempt().effect_begins()
    return effect(order_id)


@shared_task(**LATE)
@idempotent(
    key="order_id",
    scope="testing.call",
    policy=Leased(on_doubt=OnDoubt.RETRY, provider_window=None),
)
def call(order_id):
    return effect(order_id, str(current_attempt().provider_key))


def at_the_provider(doubt):
    return Verdict.happened(f"{doubt.arguments['order_id']} is there")


@shared_task(**LATE)
@idempotent(key="order_id", scope="testing.ask", policy=Leased(on_doubt=at_the_provider))
def ask(order_id):
    return effect(order_id)


@shared_task(bind=True, max_retries=3, **LATE)
@idempotent(key="order_id", scope="testing.patient")
def patient(self, order_id):
    if self.request.retries < 2:
        raise self.retry(countdown=1)
    return effect(order_id, f"after {self.request.retries} retries")


@shared_task(**LATE)
@idempotent(key="order_id", scope="testing.refuse")
def refuse(order_id, how):
    raise {"ignore": Ignore, "reject": Reject}[how](f"{order_id} is not ours")


@shared_task
@idempotent(key=TASK_ID, scope="testing.by_message")
def by_message():
    return effect("message")


@idempotent(key="order_id", scope="testing.plain")
def plain(order_id):
    return effect(order_id)


def view(order_id):
    """A view, or a command, that calls execute()."""
    return execute(lambda: effect(order_id), key=order_id, scope="testing.view").result


@shared_task
def unprotected(order_id):
    return effect(order_id)


@shared_task(**LATE)
@idempotent(key="order_id", scope="testing.tidy", policy=MARKED)
def tidy(order_id):
    """It tidies up, as a process that was killed never does."""
    try:
        current_attempt().effect_begins()
    finally:
        effect(order_id, "tidied")


#: Errors of its inner call that `stubborn` has caught.
caught = []


@shared_task
@idempotent(key="order_id", scope="testing.stubborn")
def stubborn(order_id):
    """Nothing can end it, it thinks."""
    try:
        return plain(order_id)
    except Exception as error:
        caught.append(error)
        raise
    except BaseException:
        return "alive"


@shared_task
@idempotent(key="order_id", scope="testing.outer")
def outer(order_id):
    return ["outer", plain(order_id)]


@shared_task(**LATE)
@idempotent(key="order_id", scope="testing.letter")
def letter(order_id):
    mails.send_mail(f"order {order_id}", "It is on its way.", "shop@example.org", ["a@example.org"])


@shared_task(**LATE)
@idempotent(key="order_id", scope="testing.fan_out")
def fan_out(order_id):
    """It publishes at once, and not on commit."""
    unprotected.delay(order_id)
    unprotected.s(order_id).apply_async()


@shared_task(acks_late=False)
@idempotent(key="order_id", scope="testing.early")
def early(order_id):
    return effect(order_id)


@shared_task(**LATE)
@idempotent(key="path", scope="testing.leave_behind")
def leave_behind(path):
    """It starts a process that has its output, and lives for longer."""
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(path).write_text(str(started.pid))


@shared_task(**LATE)
@idempotent(key="order_id", scope="testing.hang")
def hang(order_id):
    threading.Event().wait(60)


@shared_task(**LATE)
@idempotent(key="order_id", scope="testing.tell")
def tell(order_id):
    """The name under which this process is known to the server."""
    return effect(order_id, settings.DATABASES[connection.alias]["OPTIONS"]["application_name"])


@shared_task(**LATE)
def part(order_id):
    """Only a part of it is idempotent."""
    plain(order_id)
    effect(order_id, "unprotected")
