"""The world outside of the database: real servers with journals of their own, and their faults."""

import os
import signal
from collections import Counter
from contextlib import suppress
from urllib.parse import urlsplit

from notifications.demo.mailserver import MailServer
from notifications.demo.plan import Fault
from notifications.demo.receiver import Receiver
from notifications.demo.trouble import Trouble

#: What the servers do to a sender who waits for their answer, by the name of the fault.
FAULTS = {
    "kill process before acceptance": Fault.KILL_BEFORE,
    "kill process after acceptance": Fault.KILL_AFTER,
    "hang up after acceptance": Fault.HANG_UP,
}
NAMES = {fault: name for name, fault in FAULTS.items()}


class Outside:
    """A mail server, a receiver that knows repeats by their key, and one that can be asked."""

    def __init__(self) -> None:
        self.trouble = Trouble(kill=_kill)
        self.mail = MailServer(self.trouble)
        self.keyed = Receiver(trouble=self.trouble)
        self.asked = Receiver(trouble=self.trouble, honours_key=False)

    def start(self) -> dict[str, str]:
        """Start them; what the workers have to know."""
        self.keyed.start()
        self.asked.start()
        return {
            "STORM_MAIL": str(self.mail.start()),
            "STORM_KEYED": self.keyed.host,
            "STORM_ASKED": self.asked.host,
        }

    def stop(self) -> None:
        for server in (self.mail, self.keyed, self.asked):
            server.stop()

    def order(self, fault: str, promise: str, key: str) -> None:
        """Let the first arrival of the key's effect meet a fault."""
        recipient = f"{key}@example.com" if promise == "HOLD" else f"/{key}"
        self.trouble.faults[recipient] = FAULTS[fault]

    def struck(self) -> list[tuple[str, str, int]]:
        """Fault, key and process of what has happened since the last time."""
        new = []
        while not self.trouble.incidents.empty():
            incident = self.trouble.incidents.get()
            key = incident.recipient.strip("/").removesuffix("@example.com")
            new.append((NAMES[incident.fault], key, incident.pid))
        return new

    def effects(self) -> dict[str, Counter[str]]:
        """How often each key's effect has happened, by the promise, as these servers tell."""
        return {
            "HOLD": Counter(sent.recipient.split("@")[0] for sent in list(self.mail.journal)),
            "RETRY": Counter(_key(post.path) for post in list(self.keyed.journal)),
            "ask": Counter(_key(post.path) for post in list(self.asked.journal)),
        }


def _key(path: str) -> str:
    return urlsplit(path).path.strip("/")


def _kill(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return pid > 0
    return False
