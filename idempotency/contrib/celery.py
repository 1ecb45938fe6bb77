"""The Celery delivery a call runs under: its identity, what its exceptions mean, where its
message goes when the body did not run."""

from __future__ import annotations

import inspect
import logging
import math
import random
import time
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from functools import cached_property
from types import NoneType
from typing import Any
from uuid import UUID, uuid5

from celery import Task
from celery._state import get_current_task
from celery.app import app_or_default
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded, TaskPredicate
from celery.signals import worker_process_shutdown
from django.db import DatabaseError, InterfaceError
from kombu.exceptions import DecodeError, EncodeError
from kombu.serialization import dumps, loads

from idempotency import events, parking
from idempotency.attempts import Delivery, delivery_finders
from idempotency.conf import conf
from idempotency.exceptions import (
    AlreadyRunning,
    Exhausted,
    IdempotencyError,
    InDoubt,
    InsideTransaction,
    LeaseLost,
    ManualCommit,
    ShardUnknown,
    TransactionLost,
)
from idempotency.jobs import loaders
from idempotency.models import Kind, Reason
from idempotency.signals import Told
from idempotency.storage.rows import storable

logger = logging.getLogger("idempotency")

#: The header that counts how often a message was deferred.
DEFERRED = "idempotency_deferred"
#: The header that says since when, in seconds since 1970.
DEFERRED_SINCE = "idempotency_deferred_since"
#: Our note on a request whose task has called its body.
ENTERED = "idempotency_entered"
#: Seconds until the first deferral comes back, and at most.
SHORTEST_DEFERRAL, LONGEST_DEFERRAL = 2.0, 30.0

#: RabbitMQ's own notes on a message that waited in a queue for delays. Published again, they make
#: it look like a cycle, and RabbitMQ drops it. (rabbitmq.com/docs/dlx, "Message Cycles")
X_DEATH = ("x-death", "x-first-death-", "x-last-death-")

#: Celery's private names, since 5.7: a result backend that has the one lets the member of a chord
#: that came last claim the publication of the body, under a key with this end, until it is done or
#: the claim has lapsed. (celery/backends/redis.py, CHORD_PART_RETURN_LUA)
CLAIMS, CLAIM, DONE = "_chord_claim_extend_script", ".c", (b"done", "done")

#: What a header beside a dict of others is taken to be.
HEADER = (str, int, float, NoneType)

#: What keeps a message from being parked, so that it is deferred once more.
NOT_PARKED = (DatabaseError, InterfaceError, InsideTransaction, ManualCommit)

#: Namespace of the ids of callbacks; a random UUID. (RFC 9562, section 5.5.)
CALLBACKS = UUID("8f1c0c57-7d5e-4b7e-9d57-1a4b2f3d6c90")


class Requeue(Reject, Ignore):
    """Give the message back to the broker. ``autoretry_for`` lets an ``Ignore`` pass."""


class CeleryDelivery(Delivery):
    """One message of a Celery task whose body is ours."""

    def __init__(self, task: Task[Any, Any]) -> None:
        self._task = task
        self._request = request = task.request
        # Never assigned anew, so it may be narrower.
        self.task_id: str = storable(request.id or "")  # pyright: ignore[reportIncompatibleVariableOverride]
        self._parked = False
        # A retry keeps the id and is the same intended call, so `retries` is no part of this. A
        # replaced task keeps the id too and is another one. (celery/app/task.py, retry, replace)
        self.message = (request.id or "", request.replaced_task_nesting or 0)
        self.redelivered = bool((request.delivery_info or {}).get("redelivered"))
        self._deferred: int = self._header(DEFERRED) or 0
        self._deferred_since: float | None = self._header(DEFERRED_SINCE)
        self.repeated = bool(self.redelivered or request.retries or self._deferred)
        hard = (request.timelimit or (None,))[0] or task.time_limit or task.app.conf.task_time_limit
        self.time_limit = timedelta(seconds=hard) if hard else None

    def name_callbacks(self) -> None:
        """Give each task of the ``link=`` callbacks an id of its own that is the same in every run:
        Celery would make a new one each time, by which a replayed callback could not be known
        again."""
        for number, callback in enumerate(self._request.callbacks or ()):
            _name(callback, f"{self.message} {number}")

    def arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Copies: of the message's own are made its retry, its deferral and what is parked."""
        if self._request.is_eager:
            return args, kwargs
        self._forget_deferrals()
        try:
            return deepcopy((args, kwargs), {id(self._task): self._task})
        except SoftTimeLimitExceeded:
            raise
        except Exception:  # pickled, and not to be copied
            return args, kwargs

    def _forget_deferrals(self) -> None:
        """The body got its turn: a retry that it asks for has not waited for its key yet."""
        for headers in (vars(self._request), self._request.headers or {}):
            for name in (DEFERRED, DEFERRED_SINCE):
                headers.pop(name, None)

    def is_failure(self, error: Exception) -> bool:
        return not isinstance(error, TaskPredicate)

    def cause_of(self, error: BaseException) -> BaseException | None:
        """A ``Retry`` tells nothing of an effect by itself; what it was raised for does."""
        return error.exc or error.__context__ if isinstance(error, Retry) else error

    def consumes_result(self) -> bool:
        request = self._request
        following = [*(request.chain or ())[-1:], request.chord, *(request.callbacks or ())]
        return any(_takes_result(signature) for signature in following if signature)

    def has_publisher(self) -> bool:
        """Answered under a living claim, the last member of a chord would publish nothing and be
        acknowledged, and the claim of a process that died would be the end of the chord."""
        backend: Any = self._task.backend
        is_member = self._request.chord and self._request.group
        if not is_member or not hasattr(type(backend), CLAIMS):
            return False
        try:
            claim = backend.client.get(backend.get_key_for_group(self._request.group, CLAIM))
        except backend.connection_errors:
            return True  # nobody can tell, and Celery could not count this member either
        return claim is not None and claim not in DONE

    def park(self, using: str, key_hash: UUID, generation: int | None) -> bool:
        if self._request.is_eager:
            return super().park(using, key_hash, generation)
        return self._park(using, key_hash, Reason.IN_DOUBT, generation)

    def _park(
        self, using: str, key_hash: UUID, reason: Reason, generation: int | None = None
    ) -> bool:
        self._parked = False
        self._parked = parking.park(
            using,
            key_hash,
            reason,
            task_id=self.task_id,
            message=self._text,
            generation=generation,
        )
        return self._parked

    @cached_property
    def _text(self) -> str | None:
        """The message as JSON, to be kept; None when it cannot or shall not be."""
        if not conf().STORE_MESSAGE:
            return None
        copy = self._copy(headers=self._headers(without=(DEFERRED, DEFERRED_SINCE)))
        try:
            text: str = dumps(dict(copy), serializer="json")[2]
            kept = _read(text)
        except (EncodeError, DecodeError):
            logger.exception("Message %s cannot be kept as JSON.", self.task_id)
            return None
        if repr([list(copy.args), copy.kwargs]) != repr([kept["args"], kept["kwargs"]]):
            logger.error("Message %s is not kept: JSON changes its arguments.", self.task_id)
            return None
        return text

    def answer(self, error: Exception, *, about: Told, defer_for: timedelta) -> BaseException:
        if self._request.is_eager:
            return error  # there is no message to come back
        if self._parked and self.is_failure(error):
            return self._leave(error)
        # LeaseLost too: on Redis all deliveries of a message share one tag, so that the end of
        # this one would acknowledge the message of the attempt that took over.
        # (kombu/transport/redis.py: QoS.ack removes the tag, whoever got it.)
        # ShardUnknown: during a deployment the next worker may know the shard.
        if isinstance(error, AlreadyRunning | TransactionLost | LeaseLost | ShardUnknown):
            if self._gives_up(error, about, defer_for):
                return self._leave(error)
            return self._defer(error, about)
        if isinstance(error, InDoubt | Exhausted):
            is_safe = self._is_parked(error, about["using"]) or self._gives_up(
                error, about, defer_for
            )
            return self._leave(error) if is_safe else self._defer(error, about)
        return error

    def _is_parked(self, error: IdempotencyError, using: str) -> bool:
        """Whether the message is parked now: the error is that of a nested call."""
        if error.key is None:
            return False
        reason = Reason.IN_DOUBT if isinstance(error, InDoubt) else Reason.EXHAUSTED
        try:
            return self._park(using, UUID(error.key), reason)
        except NOT_PARKED:
            logger.exception("%s is deferred, not parked.", self.task_id)
            return False

    def _gives_up(self, busy: IdempotencyError, about: Told, defer_for: timedelta) -> bool:
        """Whether it was deferred for too long, and is parked now."""
        since = self._deferred_since
        is_old = since is not None and time.time() - since >= defer_for.total_seconds()
        if not is_old or self._text is None or busy.key is None:
            return False
        about = {**about, "key_hash": UUID(busy.key), "note": f"Deferred for {defer_for}: {busy}"}
        try:
            parking.give_up(about, task_id=self.task_id, message=self._text)
        except NOT_PARKED:
            logger.exception("%s is deferred again, not parked.", self.task_id)
            return False
        self._parked = True
        return True

    def _leave(self, error: Exception) -> BaseException:
        """End a delivery whose message is parked."""
        if self._text is not None and self._is_awaited_by_a_chord():
            return Ignore(str(error))  # its failure would fail the chord for good
        return error

    def _is_awaited_by_a_chord(self) -> bool:
        """Whether this task, or what its chain comes to, is a member of a chord: Celery would
        report its failure there. (celery/backends/base.py, _fail_chain)"""
        steps = [{"options": {"chord": self._request.chord}}, *(self._request.chain or ())]
        while steps:
            step = steps.pop()
            if step["options"].get("chord"):
                return True
            if step.get("subtask_type") == "chord":
                steps.append(step["kwargs"]["body"])
        return False

    def _defer(self, busy: Exception, about: Told) -> BaseException:
        """Let the message come again later. It may be the only one left, so it is never dropped:
        the copy is published before this delivery ends, and without a copy it goes back itself."""
        headers = self._headers()
        headers[DEFERRED] = count = self._deferred + 1
        since = self._deferred_since
        headers[DEFERRED_SINCE] = time.time() if since is None else since
        countdown = self._countdown(count)
        copy = self._copy(countdown=countdown, headers=headers)
        try:
            copy.apply_async()
        except Exception:
            if not self._task.acks_late:
                logger.exception("%s is acknowledged already, and not deferred.", self.task_id)
                return busy
            logger.exception("%s is given back to the broker, not deferred.", self.task_id)
            time.sleep(1)  # else a broken broker link makes a hot loop
            return Requeue(str(busy), requeue=True)
        note = f"{type(busy).__qualname__}, again in {countdown:.0f} s"
        try:
            events.announce(Kind.DEFERRED, {**about, "note": note})
        except Exception:  # a soft time limit: the copy is published, and this delivery has to end
            logger.exception("%s is deferred, and nobody was told.", self.task_id)
        return Retry(f"Deferred: {busy}", exc=None, when=countdown, sig=copy)  # type: ignore[arg-type] # a float is Real

    def _countdown(self, count: int) -> float:
        """Seconds: growing, spread, and below the visibility timeout, after which a transport
        that has one would deliver the waiting copy a second time."""
        options = self._task.app.conf.broker_transport_options or {}
        # Where none is set, it is far longer: half an hour for SQS and pgmq, an hour for Redis.
        visibility = float(options.get("visibility_timeout") or math.inf)
        longest = min(LONGEST_DEFERRAL, visibility / 2)
        pause = min(SHORTEST_DEFERRAL * 2.0 ** min(count - 1, 10), longest)
        # Native delayed delivery, for quorum queues, counts in whole seconds and refuses zero.
        # (kombu/transport/native_delayed_delivery.py, calculate_routing_key)
        return max(1.0, pause * random.uniform(0.5, 1))  # noqa: S311 spreads the copies

    def _header(self, name: str) -> Any:
        """A header of the message. A publisher may have put a dict named ``headers`` among them,
        as some that trace do, and Celery then takes it for all that there are. (issue 4875)"""
        return (self._request.headers or {}).get(name, getattr(self._request, name, None))

    def _headers(self, without: tuple[str, ...] = ()) -> dict[str, Any]:
        """All of the message but Celery's own."""
        request = self._request
        known = request._get_custom_headers(vars(request)) or {}  # type: ignore[attr-defined] # private
        # What others keep on a request, as tracers do their spans, is no header.
        headers = {name: known[name] for name in known if isinstance(known[name], HEADER)}
        headers |= request.headers or {}
        left_out = (ENTERED, *X_DEATH, *without)
        return {name: headers[name] for name in headers if not name.startswith(left_out)}

    def _copy(self, **options: Any) -> Any:
        """The same message again: same id, retries, headers, chain, chord, links and queue."""
        if self._request.ignore_result:
            options["ignore_result"] = True  # forgotten before Celery 5.7
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
    if getattr(request, ENTERED, False):
        return None
    request.update({ENTERED: True})
    delivery = CeleryDelivery(task)
    if not request.is_eager:
        delivery.name_callbacks()
    return delivery


def _name(signature: Any, name: str) -> None:
    """Give each task of a canvas an id, made of its place in it."""
    task_id = signature["options"].setdefault("task_id", str(uuid5(CALLBACKS, name)))
    kind, parts = signature.get("subtask_type"), signature["kwargs"]
    if kind == "chord":
        header = parts["header"]
        steps = [*(header if isinstance(header, list) else [header]), parts["body"]]
    else:
        steps = parts["tasks"] if kind in ("chain", "group") else []
    if steps and kind != "group":  # the id of the whole is that of its end
        steps[-1]["options"].setdefault("task_id", task_id)
    for number, step in enumerate(steps):
        _name(step, f"{name}.{number}")


def _takes_result(signature: Any) -> bool:
    """Whether what comes next is given the result of this task."""
    parts = signature.get("kwargs")
    match signature.get("subtask_type"):
        case "chain":
            return any(_takes_result(task) for task in parts["tasks"][:1])
        case "group":
            return any(_takes_result(task) for task in parts["tasks"])
        case "chord":
            header = parts["header"]
            tasks = header if isinstance(header, list) else header["kwargs"]["tasks"]
            return any(_takes_result(task) for task in tasks)
    return not signature.get("immutable")


def _read(message: str) -> dict[str, Any]:
    """A message that was kept. It is our own text, whatever the project accepts from its broker."""
    signature: dict[str, Any] = loads(message, "application/json", "utf-8", {"application/json"})
    return signature


class CeleryBroker:
    """Parked messages: signatures as JSON."""

    def publish(self, message: str) -> None:
        """Publish it with its own task id, and with its chain, chord and links."""
        self._signature(message).apply_async()

    def arguments(self, message: str) -> tuple[list[Any], dict[str, Any]]:
        signature = self._signature(message)
        return list(signature.args), dict(signature.kwargs)

    def _signature(self, message: str) -> Any:
        return app_or_default().signature(_read(message))


def load_tasks() -> None:
    """Import the modules with the current application's tasks, as a worker does when it starts."""
    app_or_default().loader.import_default_modules()


@worker_process_shutdown.connect
def write_at_end(**_: Any) -> None:
    """The child of a pool ends by ``os._exit()``, which asks nobody."""
    events.write_at_end()


delivery_finders.append(find_delivery)
loaders.append(load_tasks)
parking.broker = CeleryBroker()
