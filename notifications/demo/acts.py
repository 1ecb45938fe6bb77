"""The acts of the demo, in order, each within its budget."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from django.core.management import call_command
from django.db import connection

from notifications.demo import login
from notifications.demo.doubts import doubts, settle
from notifications.demo.lanes import Lane
from notifications.demo.mailserver import MailServer
from notifications.demo.plan import Plan
from notifications.demo.screen import Screen
from notifications.demo.storm import OUR_QUEUE, Phase, Storm
from notifications.demo.tally import is_kept, table
from notifications.demo.tasks import PLAIN_QUEUE
from notifications.demo.workers import Worker, stop_all
from notifications.rows import read
from project.services import Servers, undisturbed

WORKERS_PER_LANE = 2
# Short, so that every redelivery happens while somebody looks.
TIMEOUTS = {"VISIBILITY_TIMEOUT": "8", "LEASE_SECONDS": "5"}


class Demo:
    """One storm, from an empty database to the table."""

    def __init__(self, servers: Servers, file: Path, *, seed: int, kills: int) -> None:
        self.servers = servers
        self.file = file
        self.seed = seed
        self.kills = kills
        self.screen = Screen()
        self.rows = [row["recipient"] for row in read(file.name, file.read_bytes()).good]
        self.plan = Plan.of(self.rows, seed=seed, kills=-(-kills // 2))
        numbers = {recipient: number for number, recipient in enumerate(self.rows, start=1)}
        self.plain = self._lane(0, numbers)
        self.ours = self._lane(1, numbers)
        self.lanes = (self.plain, self.ours)
        self._spent: list[str] = []

    @contextmanager
    def cast(self) -> Iterator[None]:
        """Mail servers and workers exist within the block, and nowhere else."""
        clean = False
        try:
            yield
            clean = True
        finally:
            with undisturbed():
                stop_all([w for lane in self.lanes for w in lane.workers], at_once=not clean)
                for lane in self.lanes:
                    lane.mail.stop()

    def play(self) -> bool:
        """All acts; returns whether our lane has lost nothing and doubled nothing."""
        self._say_what_will_happen()
        with self._phase("start", 60):
            self._start()
        storm = Storm(self.lanes, self.plan, self.servers.valkey, self.screen)
        with self._phase("read the file", 60) as phase:
            storm.read_file(str(self.file), phase)
        with self._phase("storm", 150 + 2 * self.kills) as phase:
            self.screen.heading("plain Celery", "idempotent")
            storm.blow(phase)
        self._say_how_it_was(storm)
        with self._phase("doubts", 90) as phase:
            found = doubts()
            settle(found, self.ours.mail, self.ours.numbers, self.screen)
            storm.calm_down(phase)
            left = len(doubts())
            copies = [self.ours.received()[doubt.message.recipient] for doubt in found]
            self.screen.say(
                f"  {len(found)} resolved, {left} left in doubt. Of these mails, {copies.count(1)} "
                f"were sent once and {sum(n > 1 for n in copies)} twice or more."
            )
        return self._verdict(len(found), left)

    def say_where_to_look(self, state: Path) -> None:
        """How the same can be looked at afterwards."""
        self.screen.say(
            f"Look at it:      make serve, then http://127.0.0.1:8000/admin/ "
            f"(login {login.USER}, password {login.password(state)})"
        )

    def _lane(self, column: int, numbers: dict[str, int]) -> Lane:
        lane = Lane(column, self.screen, MailServer(dict(self.plan.faults)), numbers)
        lane.mail.kill = lane.kill
        return lane

    def _start(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("DROP SCHEMA public CASCADE")
            cursor.execute("CREATE SCHEMA public")
        call_command("migrate", verbosity=0)
        with redis.Redis.from_url(self.servers.broker_url) as client:
            client.flushall()
        self._start_workers(self.plain, "plain", PLAIN_QUEUE)
        self._start_workers(self.ours, "ours", OUR_QUEUE)

    def _start_workers(self, lane: Lane, name: str, queue: str) -> None:
        environment = os.environ | TIMEOUTS | {"EMAIL_PORT": str(lane.mail.start())}
        for number in range(1, WORKERS_PER_LANE + 1):
            log = self.servers.postgresql.state / f"{name}-{number}.log"
            log.unlink(missing_ok=True)
            worker = Worker(f"{name}-{number}", queue=queue, log=log, environment=environment)
            lane.workers.append(worker)
            worker.start()

    @contextmanager
    def _phase(self, name: str, budget: int) -> Iterator[Phase]:
        start = time.monotonic()
        self.screen.say(f"\n-- {name} (budget {budget} s)")
        yield Phase(name, start + budget)
        self._spent.append(f"{name} {time.monotonic() - start:.0f} of {budget} s")

    def _say_what_will_happen(self) -> None:
        published = sum(self.plan.copies.values())
        self.screen.say(f"SEED={self.seed} KILLS={self.kills}")
        self.screen.say(
            f"{len(self.rows)} messages, each published 1 to 4 times ({published} in all), in each "
            "of two lanes\nunder the same faults. Plain Celery: late ack, requeue on worker loss, "
            "autoretry;\nit sends what is delivered. Idempotent: the same with @idempotent."
        )

    def _say_how_it_was(self, storm: Storm) -> None:
        seen = sum(lane.seen_kills for lane in self.lanes)
        blind = sum(lane.blind_kills for lane in self.lanes)
        self.screen.say(
            f"\n{seen + blind + storm.broker_kills} x kill -9: {seen} seen in the body, {blind} "
            f"whatever it did, {storm.broker_kills} the broker. The mail server hung up\nafter "
            f"accepting {sum(lane.hang_ups for lane in self.lanes)} times."
        )

    def _verdict(self, resolved: int, left: int) -> bool:
        plain, ours = self.plain.received(), self.ours.received()
        self.screen.say(f"\n{table(plain, ours, self.plan.copies, resolved, left)}\n")
        held = is_kept(ours, self.plan.copies, left)
        self.screen.say(f"Time:            {', '.join(self._spent)}")
        self.screen.say(f"Replay it:       make demo SEED={self.seed} KILLS={self.kills}")
        self.screen.say(f"Now break it:    make demo KILLS=100 SEED={self.seed + 1}")
        if not held:
            self.screen.say("OUR LANE HAS LOST OR DOUBLED A MESSAGE, OR LEFT A DOUBT.")
        return held
