"""Messages that a test delivers, and what becomes of each delivery."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from django.core import mail

from idempotency.conf import conf
from idempotency.digests import Key
from idempotency.models import IdempotencyRecord, ParkedMessage
from idempotency.testing import child, tracing
from idempotency.testing.deaths import CannotDeliver, Death, SimulatedCrash, simulated
from idempotency.testing.records import records_of, story_of
from idempotency.testing.watching import AFTER_COMMIT, Watch, in_test_case, watched_by, watching

#: The messages last delivered, and the outbox of their test. Every test of Django's has a new one.
#: (django/test/testcases.py: SimpleTestCase._pre_setup)
recent: deque[tuple[object, Message]] = deque(maxlen=10)


def _outbox() -> object:
    return getattr(mail, "outbox", None)


def recent_stories() -> str:
    """What happened to the messages that this test delivered last; empty without any."""
    messages = [message for outbox, message in recent if outbox is _outbox()]
    return "\n".join(story_of(message) for message in dict.fromkeys(messages))


#: Where the messages go that are published in this context, instead of to a broker.
_published: ContextVar[list[Message] | None] = ContextVar("idempotency_published", default=None)


class Message:
    """A task with its arguments, under one id: what a broker delivers once, or more often.

    Args:
        task: A Celery task, a function under ``@idempotent``, or one that calls ``execute()``.
        args: As for ``task.delay()``, or for the function.
        kwargs: Likewise.

    Attributes:
        id: The message's, which is the task's id.
        history: What became of each delivery so far, in words.

    Raises:
        TypeError: The arguments do not fit the Celery task.
        kombu.exceptions.EncodeError: They do not fit its serializer.
    """

    def __init__(self, task: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.task = task
        self.is_celery = tracing.is_celery(task)
        if self.is_celery:
            args, kwargs = tracing.through_broker(task, args, kwargs)
        self.args, self.kwargs = args, kwargs
        self.id = str(uuid4())
        self.retries = 0
        self.headers: dict[str, Any] = {}
        self.deliveries = 0
        self.history: list[str] = []
        self.key: Key | None = None
        self.using = conf().DATABASE

    def __repr__(self) -> str:
        name = getattr(self.task, "name", None) or getattr(self.task, "__qualname__", self.task)
        arguments = [repr(each) for each in self.args]
        arguments += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{name}({', '.join(arguments)})"

    @property
    def record(self) -> IdempotencyRecord:
        """The record of its key, as it is now.

        Raises:
            AssertionError: There is none, and the message says what that means.
        """
        record: IdempotencyRecord | None = records_of(self).first()
        if record is None:
            raise AssertionError(f"There is no record of {self}.\n{story_of(self)}")
        return record

    def deliver(self) -> Delivered:
        """Deliver it; from the second time on it is flagged as redelivered.

        A Celery task runs in Celery's own tracer, where its broker's client would call it. What
        it publishes of itself (a deferral, a retry), and what was parked, is caught.

        Raises:
            CannotDeliver: Nothing in it was idempotent.
        """
        with watching(), catching(self):
            return self.deliver_watched(Watch(lambda moment: None), redelivered=self.count())

    def die(self, at: str | Death) -> None:
        """Deliver it to a process that dies.

        In a test that commits (``TransactionTestCase``, ``django_db(transaction=True)``) it is a
        process of its own, which ends by SIGKILL. Inside a ``TestCase`` the death is simulated:
        from that moment on no statement is sent from here, and what is open is rolled back.

        Args:
            at: ``BEFORE_EFFECT``, ``AFTER_EFFECT``, ``AFTER_COMMIT``, a durable step
                (``"after claim"``), or what ``every_death()`` gives.

        Raises:
            ValueError: There is no moment of this name.
            CannotDeliver: The delivery did not come to this moment, or cannot be made in another
                process, or nobody would repeat it after a death: the message says why.
        """
        death = at if isinstance(at, Death) else Death(at)
        if self.is_celery:
            tracing.refuse_early(self.task)
        recent.append((_outbox(), self))
        simulates = in_test_case()
        if simulates:
            self._simulate(death)
        else:
            child.die(self, death)
        if death.struck is not None:
            how = "simulated" if simulates else "killed"
            self.history.append(f"died {death.struck}, {how}")
        elif isinstance(at, str):
            raise CannotDeliver(
                f"{self} ended before it came to {at!r}: it was delivered, and nothing died.\n"
                f"{story_of(self)}"
            )

    def _simulate(self, death: Death) -> None:
        with watching(), catching(self), simulated(death) as meet:
            try:
                self.deliver_watched(Watch(meet), redelivered=self.count())
            except SimulatedCrash:
                return

    def count(self) -> bool:
        """Count a delivery; whether there was one before."""
        self.deliveries += 1
        return self.deliveries > 1

    def deliver_watched(self, watch: Watch, *, redelivered: bool) -> Delivered:
        """One delivery; inside of ``watching()`` and ``catching()``."""
        recent.append((_outbox(), self))
        published: list[Message] = []
        token = _published.set(published)
        try:
            with watched_by(watch):
                value, error = self._call(redelivered)
        finally:
            _published.reset(token)
            if watch.key is not None:
                self.key, self.using = watch.key, watch.using
        if watch.key is None and error is None:
            raise CannotDeliver(
                f"{self} ran without @idempotent and without execute(): a second delivery would "
                "repeat all that it did. Put @idempotent below @shared_task."
            )
        if watch.outcome is not None:
            watch.meet(AFTER_COMMIT)
        delivered = Delivered(
            message=self,
            value=value,
            error=error,
            replayed=self._is_replay(watch),
            parked=ParkedMessage.objects.using(self.using).filter(task_id=self.id).exists(),
            published=tuple(published),
        )
        self.history.append(str(delivered))
        return delivered

    def _is_replay(self, watch: Watch) -> bool:
        """A task that calls something idempotent has run, even if that was replayed."""
        replayed = watch.outcome is not None and watch.outcome.replayed
        return replayed and (watch.is_task or not self.is_celery)

    def _call(self, redelivered: bool) -> tuple[Any, BaseException | None]:
        if self.is_celery:
            return tracing.trace(self, redelivered=redelivered)
        try:
            return self.task(*self.args, **self.kwargs), None
        except Exception as error:
            return None, error


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """What became of one delivery.

    Attributes:
        message: What was delivered.
        replayed: Whether an earlier delivery's result was the answer, so that the body did not run.
            Of a function that is no task: whether its last idempotent call was answered so.
        error: What was raised: for a Celery task also its Retry, Ignore or Reject. Else None.
        parked: Whether the message waits, parked, for a doubt to be resolved.
        published: What was published instead of to the broker: a deferred message, a retry.
    """

    message: Message
    value: Any
    error: BaseException | None
    replayed: bool
    parked: bool
    published: tuple[Message, ...]

    @property
    def result(self) -> Any:
        """What the task returned.

        Raises:
            AssertionError: It returned nothing, and the message says why.
        """
        if self.error is not None:
            raise AssertionError(
                f"This delivery has no result: {self}.\n{story_of(self.message)}"
            ) from self.error
        return self.value

    @property
    def deferred(self) -> bool:
        """Whether the key was busy, so that the message was published again for later."""
        return any(
            tracing.is_deferred(each) for each in self.published if each.id == self.message.id
        )

    def __str__(self) -> str:
        if self.error is None:
            return f"{'was answered' if self.replayed else 'returned'} {self.value!r}"
        ended = "was deferred" if self.deferred else "was parked" if self.parked else "raised"
        return f"{ended}: {type(self.error).__name__}: {self.error}"


def deliver_twice(task: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Delivered]:
    """Deliver one message, and then the same message again.

    Two messages with one key are ``Message(...)`` twice, and ``deliver()`` on each.
    """
    message = Message(task, *args, **kwargs)
    return [message.deliver(), message.deliver()]


@contextmanager
def published() -> Iterator[list[Message]]:
    """The parked messages that are published inside the block, in a list instead of to a broker:
    by ``resolve()``, ``allow_again()``, ``sweep()``, the admin or a command."""
    messages: list[Message] = []
    token = _published.set(messages)
    try:
        with tracing.catching_parked(keep):
            yield messages
    finally:
        _published.reset(token)


@contextmanager
def catching(*messages: Message) -> Iterator[None]:
    """What these tasks publish of themselves, and what was parked, is kept for the test."""
    tasks = {id(each.task): each.task for each in messages if each.is_celery}
    with tracing.catching_parked(keep), tracing.catching_own(tasks.values(), keep):
        yield


def keep(task: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> bool:
    """Keep what is published in this context. False: nobody catches it here."""
    messages = _published.get()
    if messages is None:
        return False
    message = Message(task, *(args or ()), **(kwargs or {}))
    message.id = options.get("task_id") or message.id
    message.retries = options.get("retries") or 0
    message.headers = options.get("headers") or {}
    messages.append(message)
    return True
