"""The Celery delivery a call runs under: its identity, what its exceptions mean, where its
message goes when the body did not run."""

from __future__ import annotations

import inspect
import logging
import random
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery import Task
from celery._state import get_current_task
from celery.app import app_or_default
from celery.exceptions import Ignore, Reject, Retry, TaskPredicate
from django.db import DatabaseError, InterfaceError
from kombu.exceptions import EncodeError
from kombu.serialization import dumps, loads

from idempotency import resolution
from idempotency.attempts import Delivery, delivery_finders
from idempotency.conf import conf
from idempotency.exceptions import AlreadyRunning, InDoubt, LeaseLost, TransactionLost

logger = logging.getLogger("idempotency")

#: The header that counts how often a message was deferred.
DEFERRED = "idempotency_deferred"
#: Seconds until the first deferral comes back, and at most.
SHORTEST_DEFERRAL, LONGEST_DEFERRAL = 1.0, 30.0
#: Seconds of the visibility timeout where the transport has one and none is set (Redis).
VISIBILITY_TIMEOUT = 3600.0


class Requeue(Reject, Ignore):
    """Give the message back to the broker. ``autoretry_for`` lets an ``Ignore`` pass."""


class CeleryDelivery(Delivery):
    """One message of a Celery task whose body is ours."""

    def __init__(self, task: Task[Any, Any]) -> None:
        self._task = task
        self._request = request = task.request
        self.task_id: str = request.id or ""
        self._parked = False
        self._can_park = True
        # A retry keeps the id and is the same intended call, so `retries` is no part of this. A
        # replaced task keeps the id too and is another one. (celery/app/task.py, retry, replace)
        self.message = (self.task_id, request.replaced_task_nesting or 0)
        redelivered = (request.delivery_info or {}).get("redelivered", False)
        self.repeated = bool(redelivered or request.retries)
        hard = (request.timelimit or (None,))[0] or task.time_limit or task.app.conf.task_time_limit
        self.time_limit = timedelta(seconds=hard) if hard else None

    def is_failure(self, error: Exception) -> bool:
        return not isinstance(error, TaskPredicate)

    def cause_of(self, error: BaseException) -> BaseException | None:
        """A ``Retry`` tells nothing of an effect by itself; what it was raised for does."""
        return error.exc or error.__context__ if isinstance(error, Retry) else error

    def consumes_result(self) -> bool:
        request = self._request
        return bool(request.chain or request.chord or request.callbacks)

    def park(self, using: str, key_hash: UUID, generation: int | None) -> bool:
        try:
            _, _, text = dumps(dict(self._copy()), serializer="json")
        except EncodeError:
            logger.exception(
                "Message %s cannot be kept as JSON: send it again yourself after the doubt about "
                "key %s is resolved.",
                self.task_id,
                key_hash.hex,
            )
            self._can_park = False
            return True
        self._parked = resolution.park(
            using, key_hash, generation, task_id=self.task_id, message=text
        )
        return self._parked

    def answer(self, error: Exception) -> BaseException:
        if self._request.is_eager:
            return error  # there is no message to come back
        # LeaseLost too: on Redis all deliveries of a message share one tag, so that the end of
        # this one would acknowledge the message of the attempt that took over.
        # (kombu/transport/redis.py: QoS.ack removes the tag, whoever got it.)
        if isinstance(error, AlreadyRunning | TransactionLost | LeaseLost):
            return self._defer(error)
        return self._leave_in_doubt(error) if isinstance(error, InDoubt) else error

    def _leave_in_doubt(self, error: InDoubt) -> BaseException:
        """End a delivery whose message is parked, or park it under the doubt of a nested call."""
        if self._can_park and not self._parked:
            try:
                self.park(conf().DATABASE, UUID(error.key), None)
            except (DatabaseError, InterfaceError):
                logger.exception("%s is deferred, not parked.", self.task_id)
            if not self._parked:
                return self._defer(error)
        if self._parked and self._request.chord:
            return Ignore(str(error))  # its failure would fail the chord for good
        return error

    def _defer(self, busy: Exception) -> BaseException:
        """Let the message come again later. It may be the only one left, so it is never dropped:
        the copy is published before this delivery ends, and without a copy it goes back itself."""
        headers = dict(self._request.headers or {})
        headers[DEFERRED] = count = headers.get(DEFERRED, 0) + 1
        countdown = self._countdown(count)
        copy = self._copy(countdown=countdown, headers=headers)
        try:
            copy.apply_async()
        except Exception:
            logger.exception("%s is given back to the broker, not deferred.", self.task_id)
            time.sleep(SHORTEST_DEFERRAL)  # else a broken broker link makes a hot loop
            return Requeue(str(busy), requeue=True)
        return Retry(f"Deferred: {busy}", exc=None, when=countdown, sig=copy)  # type: ignore[arg-type] # a float is Real

    def _countdown(self, count: int) -> float:
        """Seconds: growing, spread, and below the visibility timeout, after which a transport
        that has one would deliver the waiting copy a second time."""
        options = self._task.app.conf.broker_transport_options or {}
        visibility = float(options.get("visibility_timeout", VISIBILITY_TIMEOUT))
        longest = min(LONGEST_DEFERRAL, visibility / 2)
        pause = min(SHORTEST_DEFERRAL * 2.0 ** min(count - 1, 10), longest)
        return pause * random.uniform(0.5, 1)  # noqa: S311 spreads the copies

    def _copy(self, **options: Any) -> Any:
        """The same message again: same id, retries, headers, chain, chord, links and queue."""
        return self._task.signature_from_request(self._request, **options)


def find_delivery(function: Callable[..., Any]) -> CeleryDelivery | None:
    """The delivery now running, if ``function`` is the body of its task and was not called in it
    before."""
    task = get_current_task()
    if task is None or task.request.called_directly:
        return None
    # Below us may be other decorators; what is asked is whether the task's own chain holds us.
    if inspect.unwrap(task.run, stop=lambda wrapped: wrapped is function) is not function:
        return None
    request = task.request
    if getattr(request, "idempotency_entered", False):
        return None
    request.update(idempotency_entered=True)
    return CeleryDelivery(task)


class CeleryBroker:
    """Parked messages: signatures as JSON."""

    def publish(self, message: str) -> None:
        """Publish it with its own task id, and with its chain, chord and links."""
        self._signature(message).apply_async()

    def arguments(self, message: str) -> tuple[list[Any], dict[str, Any]]:
        signature = self._signature(message)
        return list(signature.args), dict(signature.kwargs)

    def _signature(self, message: str) -> Any:
        return app_or_default().signature(loads(message, "application/json", "utf-8"))


delivery_finders.append(find_delivery)
resolution.broker = CeleryBroker()
