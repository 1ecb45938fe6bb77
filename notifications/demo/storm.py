"""The storm: every message published one to four times, in both lanes, under the same faults."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import redis
from celery import Task
from django.core.management import call_command

from notifications.demo.lanes import HOLD_SECONDS, Lane
from notifications.demo.plan import Plan
from notifications.demo.screen import Screen
from notifications.demo.tasks import PLAIN_QUEUE, send_plainly
from notifications.demo.trouble import EVERYBODY
from notifications.models import Channel, Message
from notifications.tasks import SENDERS
from project.valkey import Valkey

OUR_QUEUE = "celery"
BROKER_DIES_AT = 0.5
QUIET_SECONDS = 1.5
TICK = 0.05


class OutOfTime(RuntimeError):
    """A phase has used up its budget."""


@dataclass(frozen=True)
class Phase:
    """A part of the demo that must not take longer than its budget."""

    name: str
    deadline: float

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Raises ``OutOfTime``."""
        while not holds():
            if time.monotonic() > self.deadline:
                raise OutOfTime(f"{self.name}: the budget is used up.")
            time.sleep(TICK)


class Storm:
    """Both lanes (plain, ours) on one broker."""

    def __init__(self, lanes: Sequence[Lane], plan: Plan, broker: Valkey, screen: Screen) -> None:
        self.plain, self.ours = self.lanes = tuple(lanes)
        self.plan = plan
        self.screen = screen
        self._broker = broker
        self._client = redis.Redis.from_url(broker.url)
        self._chance = random.Random(plan.shuffle)  # noqa: S311 faults, not secrets
        self._blind = [list(plan.blind_kills) for _ in self.lanes]
        self._quiet_since = 0.0
        self._published = False
        self.broker_kills = 0
        self._broker_deadline = 0.0

    def read_files(self, files: Sequence[Path], phase: Phase) -> None:
        """Give the files to the command, as anybody would, and wait for their messages."""
        for file in files:
            call_command("send_messages", file)
        phase.wait_until(lambda: Message.objects.count() == len(self.plan.copies))

    def blow(self, phase: Phase) -> None:
        """Publish every message as often as planned, and let every fault strike meanwhile, until
        nothing is queued and nothing is unacknowledged."""
        for sent, (task, message_id, queue) in enumerate(self._messages()):
            task.apply_async((message_id,), queue=queue)
            if sent % 20 == 0:
                self._step()
        self._published = True
        phase.wait_until(self._step)

    def _messages(self) -> list[tuple[Task[..., None], int, str]]:
        # Our lane's first copy of each is published by the command.
        plain: list[tuple[Task[..., None], int, str]] = []
        ours: list[tuple[Task[..., None], int, str]] = []
        for message in Message.objects.order_by("pk"):
            copies = self.plan.copies[urlsplit(message.recipient).path]
            plain += [(send_plainly, message.pk, PLAIN_QUEUE)] * copies
            ours += [(SENDERS[Channel(message.channel)], message.pk, OUR_QUEUE)] * (copies - 1)
        return self._chance.sample(plain + ours, len(plain) + len(ours))

    def calm_down(self, phase: Phase) -> None:
        """Wait until nothing is queued and nothing is unacknowledged."""
        self._quiet_since = 0.0
        phase.wait_until(self._is_quiet)

    def _step(self) -> bool:
        for lane, due in zip(self.lanes, self._blind, strict=True):
            if lane.handle_incidents():
                # The worker may have died while it looked for unacknowledged messages: nobody
                # else would look for five minutes (kombu's unacked_mutex_expire).
                self._client.delete("unacked_mutex")
            lane.revive()
            if due and lane.share() >= due[0]:
                due.pop(0)
                lane.kill_blindly(self._chance)
        if self._published and not self.broker_kills:
            self._doom_broker()
        self.screen.state(*(self._state(lane) for lane in self.lanes))
        return self._is_quiet() and self.broker_kills > 0

    def _doom_broker(self) -> None:
        """Kill it in the middle of the storm, when every worker is in its bodies."""
        if not self._broker_deadline:
            if min(lane.share() for lane in self.lanes) < BROKER_DIES_AT:
                return
            self._broker_deadline = time.monotonic() + HOLD_SECONDS
            for lane in self.lanes:
                lane.trouble.hold(EVERYBODY)
        held = all(lane.is_held(worker) for lane in self.lanes for worker in lane.workers)
        if held or time.monotonic() > self._broker_deadline:
            self._kill_broker()

    def _kill_broker(self) -> None:
        queued, unacknowledged = self._counts()
        self.screen.say(
            f"       kill -9 {self._broker.pid}  the broker, with {queued} messages queued and "
            f"{unacknowledged} unacknowledged"
        )
        self._broker.kill()
        self._broker.start()
        self.broker_kills += 1
        for lane in self.lanes:
            lane.trouble.release(EVERYBODY)

    def _counts(self) -> tuple[int, int]:
        with self._client.pipeline() as pipe:
            for queue in (PLAIN_QUEUE, OUR_QUEUE):
                pipe.llen(queue)
            pipe.hlen("unacked")
            *queued, unacknowledged = pipe.execute()
        return sum(queued), unacknowledged

    def _is_quiet(self) -> bool:
        # For a moment a message is neither queued nor unacknowledged: its worker has just got it.
        if any(self._counts()):
            self._quiet_since = 0.0
        elif not self._quiet_since:
            self._quiet_since = time.monotonic()
        return bool(self._quiet_since) and time.monotonic() - self._quiet_since > QUIET_SECONDS

    def _state(self, lane: Lane) -> str:
        copies = lane.received().values()
        return (
            f"{len(copies):4} sent {sum(n > 1 for n in copies):4} doubled "
            f"{lane.seen_kills + lane.blind_kills:3} kills"
        )
