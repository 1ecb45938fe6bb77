"""The acts of the demo, in order, each within its budget."""

import csv
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import redis
from django.core.management import call_command
from django.db import connection

from idempotency.contrib.celery_tasks import sweep
from notifications.demo import login
from notifications.demo.doubts import Doubt, doubts, resolved
from notifications.demo.lanes import Lane
from notifications.demo.plan import Plan
from notifications.demo.screen import Screen
from notifications.demo.storm import OUR_QUEUE, Phase, Storm
from notifications.demo.tally import is_kept, is_webhook, table
from notifications.demo.tasks import PLAIN_QUEUE
from notifications.demo.trouble import Trouble
from notifications.demo.workers import SHOWN, Worker, stop_all
from notifications.rows import COLUMNS, read
from project.services import Servers, undisturbed

WORKERS_PER_LANE = 2
MAILS_PER_WEBHOOK = 5
SECONDS_BETWEEN_SWEEPS = 2


class Demo:
    """One storm, from an empty database to the table."""

    def __init__(self, servers: Servers, file: Path, *, seed: int, kills: int) -> None:
        self.servers = servers
        self.file = file
        self.seed = seed
        self.kills = kills
        self.screen = Screen()
        mails = [row["recipient"] for row in read(file.name, file.read_bytes()).good]
        if any("://" in recipient for recipient in mails):
            raise ValueError(
                "The demo posts to its own webhooks only: leave out those of the file."
            )
        names = {recipient: f"#{number}" for number, recipient in enumerate(mails, start=1)}
        # Taken in turns by the receiver that honours the key and the one that can be asked.
        paths = [f"/hooks/{n}" for n in range(1, 2 * -(-len(mails) // MAILS_PER_WEBHOOK // 2) + 1)]
        names |= {path: f"webhook {path.rpartition('/')[2]}" for path in paths}
        # Faults strike in the first part: all webhooks, and mails that are not the last.
        self.plan = Plan.of([*mails[:1], *paths, *mails[1:]], seed=seed, kills=-(-kills // 2))
        self.plain = Lane(0, self.screen, Trouble(dict(self.plan.faults)), names)
        self.ours = Lane(1, self.screen, Trouble(dict(self.plan.faults)), names)
        self.lanes = (self.plain, self.ours)
        self._spent: list[str] = []

    @contextmanager
    def cast(self) -> Iterator[None]:
        """Servers and workers exist within the block, and nowhere else."""
        clean = False
        try:
            yield
            clean = True
        finally:
            with undisturbed():
                stop_all([w for lane in self.lanes for w in lane.workers], at_once=not clean)
                for lane in self.lanes:
                    lane.close()

    def play(self) -> bool:
        """All acts; returns whether our lane has lost nothing and doubled nothing."""
        self._say_what_will_happen()
        with self._phase("start", 60):
            self._start()
        storm = Storm(self.lanes, self.plan, self.servers.valkey, self.screen)
        with self._phase("read the file", 60) as phase:
            storm.read_files([self.file, self._write_webhooks()], phase)
        with self._phase("storm", 150 + 2 * self.kills) as phase:
            self.screen.heading("plain Celery", "idempotent")
            storm.blow(phase)
        self._say_how_it_was(storm)
        with self._phase("doubts", 90) as phase:
            self._resolve_doubts(storm, phase)
        return self._verdict(resolved(), len(doubts()))

    def say_where_to_look(self, state: Path) -> None:
        """How the same can be looked at afterwards."""
        self.screen.say(
            "Settle a doubt:  make serve, then http://127.0.0.1:8000/ "
            f"(login {login.USER}, password {login.password(state)})"
        )

    def _resolve_doubts(self, storm: Storm, phase: Phase) -> None:
        """As beat would: let a worker sweep now and then, until no doubt is left."""
        self.screen.say(f"  {resolved()} are resolved already, asked about by the next delivery.")
        found = doubts()
        for doubt in found:
            self.screen.say(f"  {self._called(doubt)}: {doubt.story()}")
            self.screen.say(f"      {doubt.question()}")
        while doubts():
            sweep.apply_async(queue=OUR_QUEUE)
            next_sweep = time.monotonic() + SECONDS_BETWEEN_SWEEPS
            phase.wait_until(lambda: time.monotonic() > next_sweep or not doubts())  # noqa: B023 called at once
        storm.calm_down(phase)
        for doubt in found:
            self.screen.say(f"  {self._called(doubt)}: {doubt.answer()}")

    def _called(self, doubt: Doubt) -> str:
        return self.ours.numbers[urlsplit(doubt.message.recipient).path]

    def _write_webhooks(self) -> Path:
        """A file of webhooks beside the one of mails."""
        file = self.servers.postgresql.state / "webhooks.csv"
        with file.open("w", newline="") as opened:
            rows = csv.writer(opened)
            rows.writerow(COLUMNS)
            for number, path in enumerate(filter(is_webhook, self.plan.copies)):
                host = (self.ours.keyed, self.ours.asked)[number % 2].host
                rows.writerow([f"http://{host}{path}", "shipped", f"Order {number} is shipped."])
        return file

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
        environment = os.environ | SHOWN | lane.open()
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
            f"{self._counted()}, each published 1 to 4 times ({published} in all), in each of "
            "two lanes\nunder the same faults. Plain Celery: late ack, requeue on worker loss, "
            "autoretry;\nit sends what is delivered. Idempotent: the same with @idempotent."
        )

    def _counted(self) -> str:
        webhooks = sum(map(is_webhook, self.plan.copies))
        return f"{len(self.plan.copies) - webhooks} mails and {webhooks} webhooks"

    def _say_how_it_was(self, storm: Storm) -> None:
        seen = sum(lane.seen_kills for lane in self.lanes)
        blind = sum(lane.blind_kills for lane in self.lanes)
        self.screen.say(
            f"\n{seen + blind + storm.broker_kills} x kill -9: {seen} seen in the body, {blind} "
            f"whatever it did, {storm.broker_kills} the broker. Servers hung up after\n"
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
