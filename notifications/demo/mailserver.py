"""A real mail server for each lane: it takes mails, remembers them, and misbehaves on purpose.

What was sent and what was lost is read from its journal, never from our own records.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from queue import SimpleQueue

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from notifications.demo.plan import Fault
from project.servers import free_port

EVERYBODY = -1


@dataclass(frozen=True)
class Mail:
    """One mail that the server has taken."""

    recipient: str
    message_id: str


@dataclass(frozen=True)
class Incident:
    """A fault that has struck, or asks for the whole worker of a process to be killed."""

    fault: Fault
    pid: int
    group: int
    recipient: str


@dataclass
class MailServer:
    """The mail server of one lane.

    Attributes:
        faults: What the first arrival of a recipient's mail meets; each strikes once.
        kill: Kills a process of this lane; whether there was one.
        journal: The mails that were taken, in order.
        incidents: For the thread that prints and that kills whole workers.
        callers: The processes that were seen to send.
        waiting: The processes that wait for an answer. Their body runs.
    """

    faults: dict[str, Fault] = field(default_factory=dict)
    kill: Callable[[int], bool] = lambda _pid: False
    journal: list[Mail] = field(default_factory=list)
    incidents: SimpleQueue[Incident] = field(default_factory=SimpleQueue)
    callers: set[int] = field(default_factory=set)
    waiting: set[int] = field(default_factory=set)
    _controller: Controller | None = None
    _held_groups: set[int] = field(default_factory=set)

    def start(self) -> int:
        """Start in a thread of its own; returns the port."""
        port = free_port()
        controller = Controller(
            self,
            hostname="127.0.0.1",
            port=port,
            ready_timeout=30,
            server_kwargs={"hostname": "mail.example"},
        )
        controller.start()
        self._controller = controller
        return port

    def stop(self) -> None:
        """Stop, if it was started."""
        if self._controller:
            self._controller.stop()

    def has_taken(self, message_id: str) -> bool:
        """Whether a mail with this ``Message-ID`` was taken."""
        return any(mail.message_id == message_id for mail in self.journal)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 aiosmtpd's name
        """Take a mail. Until this returns, its sender does not know what became of it."""
        pid, recipient = _pid(session), envelope.rcpt_tos[0]
        mail = Mail(recipient, _message_id(envelope))
        self.callers.add(pid)
        fault = self.faults.pop(recipient, None)
        if fault is None:
            await self._hold_back(pid)
            self.journal.append(mail)
            return "250 OK"
        if fault is not Fault.KILL_BEFORE:
            self.journal.append(mail)
        group = _group(pid)
        aimed = fault in (Fault.KILL_BEFORE, Fault.KILL_AFTER)
        if not aimed or self.kill(pid):
            self.incidents.put(Incident(fault, pid, group, recipient))
        if fault is Fault.KILL_WORKER:
            self.hold(group)
            await self._hold_back(pid)
        if isinstance(server.transport, asyncio.Transport):  # else its sender is gone already
            server.transport.abort()
        return "250 but the connection is gone"

    def hold(self, group: int) -> None:
        """Hold back the answer to every process of a group, or to ``EVERYBODY``."""
        self._held_groups.add(group)

    def release(self, group: int) -> None:
        """Answer them again."""
        self._held_groups.discard(group)

    async def _hold_back(self, pid: int) -> None:
        self.waiting.add(pid)
        try:
            while {EVERYBODY, _group(pid)} & self._held_groups:
                await asyncio.sleep(0.02)
        finally:  # a dead sender cancels us
            self.waiting.discard(pid)


def _pid(session: Session) -> int:
    return int((session.host_name or "pid-0").removeprefix("pid-"))


def _group(pid: int) -> int:
    with suppress(ProcessLookupError):
        return os.getpgid(pid)
    return 0


def _message_id(envelope: Envelope) -> str:
    assert isinstance(envelope.content, bytes)  # noqa: S101 aiosmtpd's default
    return str(BytesHeaderParser().parsebytes(envelope.content)["Message-ID"])
