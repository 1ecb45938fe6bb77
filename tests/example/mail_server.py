"""A real SMTP server in a thread, with an inbox and the faults that mail servers have."""

import asyncio
import threading
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Self

from aiosmtpd.smtp import SMTP, Envelope, Session

from notifications.demo.receiver import Askable


class MailServer:
    """Use as a context manager. Attributes to set:

    recipient_answer: the answer to every RCPT, e.g. ``"550 no such user"``.
    data_answer: the answer to every mail, which is then not taken unless it starts with a 2.
    hangs_up: takes every mail, then drops the connection instead of answering.
    farewell: the answer to QUIT.
    while_sending: called, in a thread of its own, when a mail comes in, before the answer.
    log: can be asked for a ``Message-ID`` over HTTP.
    """

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.recipient_answer = self.data_answer = "250 OK"
        self.hangs_up = False
        self.farewell = "221 Bye"
        self.while_sending: Callable[[], object] = lambda: None
        self.inbox: list[EmailMessage] = []
        self.log = Askable(
            lambda message_id: any(mail["Message-ID"] == message_id for mail in self.inbox)
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._server = self._loop.run_until_complete(
            self._loop.create_server(self._protocol, self.host, 0)
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread.start()
        self.log.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.log.stop()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _protocol(self) -> SMTP:
        return SMTP(self, hostname="mail.example", loop=self._loop, enable_SMTPUTF8=True)

    async def handle_RCPT(  # noqa: N802 aiosmtpd's name
        self, smtp: SMTP, session: Session, envelope: Envelope, address: str, options: Any
    ) -> str:
        if self.recipient_answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return self.recipient_answer

    async def handle_DATA(  # noqa: N802 aiosmtpd's name
        self, smtp: SMTP, session: Session, envelope: Envelope
    ) -> str:
        await asyncio.to_thread(self.while_sending)
        if self.data_answer.startswith("2"):
            mail = message_from_bytes(envelope.content, policy=policy.default)
            self.inbox.append(mail)
        if self.hangs_up:
            smtp.transport.close()
        return self.data_answer

    async def handle_QUIT(  # noqa: N802 aiosmtpd's name
        self, smtp: SMTP, session: Session, envelope: Envelope
    ) -> str:
        return self.farewell
