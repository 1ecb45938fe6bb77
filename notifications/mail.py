"""The gateway to the mail server. It tells what was certainly not sent from what is unknown."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from smtplib import SMTPDataError, SMTPHeloError, SMTPRecipientsRefused, SMTPSenderRefused
from uuid import UUID

import django
from django.core import mail
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend

from notifications.answers import NotSent, Refused, Unavailable
from notifications.models import Message


@contextmanager
def ready(message: Message, provider_key: UUID) -> Iterator[Callable[[], None]]:
    """All but sent: the block gets what is left to do. See `open_connection` and `build`."""
    with open_connection() as connection:
        built = build(message, provider_key)
        yield lambda: send(built, connection)


def message_id(provider_key: UUID) -> str:
    """The ``Message-ID`` of a mail, by which a mail server's log knows it."""
    return f"<idem.{provider_key.hex}@notifications.example>"


def build(message: Message, provider_key: UUID) -> EmailMultiAlternatives:
    """The mail, with the same ``Message-ID`` in every attempt, so that a copy can be recognised.

    Raises:
        Refused: It cannot be built.
    """
    built = EmailMultiAlternatives(
        message.subject,
        message.body,
        to=[message.recipient],
        headers={
            "Message-ID": message_id(provider_key),
            "X-Idempotency-Key": str(provider_key),
        },
    )
    try:
        built.message().as_bytes()  # now, while a failure is certainly without effect
    except ValueError as error:
        raise Refused(f"The mail cannot be built: {error}") from error
    return built


@contextmanager
def open_connection() -> Iterator[BaseEmailBackend]:
    """A connection to the mail server: open, and closed at the end.

    Raises:
        Unavailable: It cannot be opened.
    """
    # get_connection() is deprecated where Django has mailers.
    connection = mail.mailers.default if django.VERSION >= (6, 1) else mail.get_connection()
    try:
        try:
            connection.open()
        except OSError as error:  # smtplib's errors are OSErrors too
            raise Unavailable(f"The mail server cannot be reached: {error}") from error
        yield connection
    finally:
        with suppress(OSError):  # saying goodbye: it changes nothing about the mail
            connection.close()


def send(mail: EmailMultiAlternatives, connection: BaseEmailBackend) -> None:
    """Send the mail, or say why it was certainly not sent.

    Raises:
        Refused: The server answered with a 5xx.
        Unavailable: The server answered with a 4xx.
        Exception: Anything else, a lost connection above all. The mail may have been sent.
    """
    try:
        connection.send_messages([mail])
    except SMTPRecipientsRefused as error:
        [(code, words)] = error.recipients.values()  # one recipient per message
        raise _not_sent(code, words) from error
    except (SMTPHeloError, SMTPSenderRefused, SMTPDataError) as error:
        # smtplib raises SMTPDataError for all but 250: also for a 2xx, and as -1 for no code.
        if not 400 <= error.smtp_code < 600:
            raise
        raise _not_sent(error.smtp_code, error.smtp_error) from error


def _not_sent(code: int, words: bytes | str) -> NotSent:
    words = words.decode(errors="replace") if isinstance(words, bytes) else words
    return (Refused if code >= 500 else Unavailable)(f"{code} {words}")
