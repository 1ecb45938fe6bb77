"""A real mail server for each lane: it takes mails, remembers them, and misbehaves on purpose.

What was sent and what was lost is read from its journal, never from our own records.
"""

import asyncio
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from notifications.demo.plan import Fault
from notifications.demo.trouble import Trouble
from project.servers import free_port


@dataclass(frozen=True)
class Mail:
    """One mail that the server has taken."""

    recipient: str
    message_id: str


@dataclass
class MailServer:
    """The mail server of one lane.

    Attributes:
        trouble: What it does wrong on purpose.
        journal: The mails that were taken, in order.
        refusals: How the next mail to a recipient is refused, instead of being taken.
    """

    trouble: Trouble = field(default_factory=Trouble)
    journal: list[Mail] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)
    _at_work: list[str] = field(default_factory=list)
    _controller: Controller | None = None

    def start(self) -> int:
        """Start in a thread of its own; returns the port."""
        port = free_port()
        controller = Controller(
            self,
            hostname="127.0.0.1",
            port=port,
            ready_timeout=30,
            server_hostname="mail.example",
        )
        controller.start()
        self._controller = controller
        return port

    def stop(self) -> None:
        """Stop, if it was started."""
        if self._controller:
            self._controller.stop()

    def find(self, message_id: str) -> bool | None:
        """Whether a mail with this ``Message-ID`` was taken; None while it is being taken."""
        if any(mail.message_id == message_id for mail in list(self.journal)):
            return True
        return None if message_id in self._at_work else False

    async def handle_RCPT(  # noqa: N802 aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, _options: object
    ) -> str:
        """Take a recipient, or refuse them: then their mail is certainly not sent."""
        refusal = self.refusals.pop(address, "")
        if not refusal:
            envelope.rcpt_tos.append(address)
        return refusal or "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 aiosmtpd's name
        """Take a mail. Until this returns, its sender does not know what became of it."""
        mail = Mail(envelope.rcpt_tos[0], _message_id(envelope))
        self._at_work.append(mail.message_id)
        try:
            return await self._work(mail, _pid(session), server)
        finally:
            self._at_work.remove(mail.message_id)

    async def _work(self, mail: Mail, pid: int, server: SMTP) -> str:
        fault = self.trouble.meets(pid, mail.recipient)
        if fault is None:
            await self._hold_back(pid)
            self.journal.append(mail)
            return "250 OK"
        if fault is not Fault.KILL_BEFORE:
            self.journal.append(mail)
        self.trouble.strike(fault, pid, mail.recipient)
        if fault is Fault.KILL_WORKER:
            await self._hold_back(pid)
        if isinstance(server.transport, asyncio.Transport):  # else its sender is gone already
            server.transport.abort()
        return "250 but the connection is gone"

    async def _hold_back(self, pid: int) -> None:
        with self.trouble.waits(pid):  # a dead sender cancels us
            while self.trouble.is_held(pid):
                await asyncio.sleep(0.02)


def _pid(session: Session) -> int:
    return int((session.host_name or "pid-0").removeprefix("pid-"))


def _message_id(envelope: Envelope) -> str:
    assert isinstance(envelope.content, bytes)  # noqa: S101 aiosmtpd's default
    return str(BytesHeaderParser().parsebytes(envelope.content)["Message-ID"])
