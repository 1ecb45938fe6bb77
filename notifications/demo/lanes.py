"""A lane: its servers and the workers that send to them, with every fault that strikes them."""

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty

from notifications.demo.mailserver import MailServer
from notifications.demo.plan import Fault
from notifications.demo.receiver import Askable, Receiver
from notifications.demo.screen import Screen
from notifications.demo.trouble import Incident, Trouble
from notifications.demo.workers import CONCURRENCY, Worker

HOLD_SECONDS = 5
"""How long answers are held back at most; well below the timeout of mails."""


@dataclass
class Lane:
    """One of the two lanes, in its column of the screen.

    Attributes:
        numbers: How a recipient's message is called, as the faults are printed.
        mail: Its mail server, whose log can be asked.
        keyed: The receiver of its webhooks that honours their key.
        asked: The one that does not, and can be asked.
        seen_kills: SIGKILLs of a process whose body was seen to run.
        worker_kills: Those among them that killed a whole worker.
        blind_kills: SIGKILLs of a process that did whatever it did.
    """

    column: int
    screen: Screen
    trouble: Trouble
    numbers: dict[str, str]
    workers: list[Worker] = field(default_factory=list)
    seen_kills: int = 0
    worker_kills: int = 0
    blind_kills: int = 0
    hang_ups: int = 0
    _killed: set[int] = field(default_factory=set)
    _doomed: list[tuple[Incident, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.trouble.kill = self.kill
        self.mail = MailServer(self.trouble)
        self.log = Askable(self.mail.find)
        self.keyed = Receiver(trouble=self.trouble)
        self.asked = Receiver(trouble=self.trouble, honours_key=False)

    def open(self) -> dict[str, str]:
        """Start its servers; what its workers have to know of them."""
        for server in (self.log, self.keyed, self.asked):
            server.start()
        return {
            "EMAIL_PORT": str(self.mail.start()),
            "MAIL_LOG_URL": f"http://{self.log.host}/",
            "WEBHOOKS_HONOUR_KEY": self.keyed.host,
            "WEBHOOKS_CAN_BE_ASKED": self.asked.host,
        }

    def close(self) -> None:
        """Stop its servers."""
        for server in (self.mail, self.log, self.keyed, self.asked):
            server.stop()

    def owns(self, pid: int) -> bool:
        """Whether it is a pool process of this lane that was not killed before."""
        return pid not in self._killed and any(worker.owns(pid) for worker in self.workers)

    def kill(self, pid: int) -> bool:
        """SIGKILL a pool process of this lane, and nothing else; whether there was one."""
        if not self.owns(pid):
            return False
        self._killed.add(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def received(self) -> Counter[str]:
        """How many copies each recipient, or path of a webhook, has got, by the journals."""
        posts = [post.path for to in (self.keyed, self.asked) for post in list(to.journal)]
        return Counter([mail.recipient for mail in list(self.mail.journal)] + posts)

    def share(self) -> float:
        """The share of the messages that was received at least once."""
        return len(self.received()) / len(self.numbers)

    def handle_incidents(self) -> bool:
        """Print what the servers have done, and kill the workers that they hold.

        Returns whether a whole worker was killed.
        """
        before = self.worker_kills
        with suppress(Empty):
            while True:
                self._handle(self.trouble.incidents.get_nowait())
        self._doomed = [doomed for doomed in self._doomed if not self._kill_doomed(*doomed)]
        return self.worker_kills > before

    def revive(self) -> None:
        """Start the workers again that have ended by themselves, as whoever supervises them does.
        One that loses its broker may: kombu then asks a connection that is closed for its server.
        (kombu/transport/redis.py, Channel.close and _connparams)"""
        for worker in self.workers:
            if worker.has_ended:
                worker.kill()
                worker.start()
                self._print(f"{worker.name} has ended by itself, and is back")

    def kill_blindly(self, chance: random.Random) -> None:
        """SIGKILL a pool process, whatever it is doing."""
        alive = sorted(pid for pid in list(self.trouble.callers) if self.owns(pid))
        if not alive:
            return
        pid = chance.choice(alive)
        if self.kill(pid):
            self.blind_kills += 1
            self._print(f"kill -9 {pid}  whatever it does")

    def is_held(self, worker: Worker) -> bool:
        """Whether every pool process of a worker waits for an answer of a server.

        Only then is it killed, and the broker too: a worker whose processes are all in their body
        takes no message. kombu takes one off the list and notes it as unacknowledged in two steps
        (kombu/transport/redis.py, _brpop_read and QoS.append), and a kill between the two loses
        it for good, before any task has seen it.
        """
        held = [pid for pid in list(self.trouble.waiting) if self.owns(pid) and worker.owns(pid)]
        return len(held) >= CONCURRENCY

    def _handle(self, incident: Incident) -> None:
        if incident.fault is Fault.HANG_UP:
            self.hang_ups += 1
            self._print(f"{incident.pid} is hung up on, {self._number(incident)}")
        elif incident.fault is Fault.KILL_WORKER:
            self._doomed.append((incident, time.monotonic() + HOLD_SECONDS))
        else:
            self._print_kill(incident.pid, "while", incident)

    def _kill_doomed(self, incident: Incident, deadline: float) -> bool:
        """Kill the whole worker once it is held; whether its time has come."""
        worker = next((worker for worker in self.workers if worker.pid == incident.group), None)
        if worker and self.is_held(worker):
            worker.kill()
            worker.start()
            self.worker_kills += 1
            self._print_kill(incident.group, f"{worker.name},", incident)
        elif worker and time.monotonic() < deadline:
            return False
        elif self.kill(incident.pid):
            self._print_kill(incident.pid, "while", incident)
        self.trouble.release(incident.group)
        return True

    def _print_kill(self, pid: int, what: str, incident: Incident) -> None:
        self.seen_kills += 1
        self._print(f"kill -9 {pid}  {what} sending {self._number(incident)}")

    def _number(self, incident: Incident) -> str:
        return self.numbers[incident.recipient]

    def _print(self, text: str) -> None:
        self.screen.event(self.column, text)
