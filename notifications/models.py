"""A campaign and its messages, one recipient each."""

from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import (
    EmailValidator,
    MaxLengthValidator,
    ProhibitNullCharactersValidator,
    URLValidator,
)
from django.db import models
from django.utils import timezone

NAME_LENGTH = 300


def one_line(text: str) -> None:
    """Refuse a second line: in a mail's header it would be a header of its own.

    Raises:
        ValidationError: ``text`` holds what Python's ``email`` takes for a line break.
    """
    if text.splitlines() != [text]:
        raise ValidationError("Must be one line.")


def storable(text: str) -> None:
    """Refuse what neither PostgreSQL nor a mail can hold.

    Raises:
        ValidationError: A byte that was not UTF-8, half a surrogate pair, or a null character.
    """
    ProhibitNullCharactersValidator()(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValidationError("Must be valid UTF-8.") from None


def reachable(recipient: str) -> None:
    """Refuse what is neither a mail address nor an http(s) URL.

    Raises:
        ValidationError: It is neither, or a URL that cannot be sent to as it stands.
    """
    if "://" not in recipient:
        EmailValidator()(recipient)
        MaxLengthValidator(254)(recipient)  # RFC 5321, with the erratum 1690
        return
    URLValidator(schemes=["http", "https"])(recipient)
    if not recipient.isascii():
        raise ValidationError("Write the URL in ASCII: punycode and %-escapes.")
    parts = urlsplit(recipient)
    try:
        _ = parts.port  # URLValidator allows any five digits
    except ValueError as error:
        raise ValidationError(f"{error}.") from None
    if "@" in parts.netloc:
        raise ValidationError("A URL must not hold a user name or a password.")


class Campaign(models.Model):
    """The messages of one file."""

    name = models.CharField(max_length=NAME_LENGTH, unique=True)
    digest = models.CharField(max_length=64, help_text="SHA-256 of the file.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name


class Status(models.TextChoices):
    """What is known about a message. For people: whether it may be sent, the record decides."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed", "failed: certainly not sent"
    UNKNOWN = "unknown", "unknown: sent or not"


class Channel(models.TextChoices):
    """How a message is sent, and with it what is promised. One task for each."""

    MAIL = "mail"
    KEYED = "keyed", "webhook, honours the key"
    ASKED = "asked", "webhook, can be asked"

    @classmethod
    def of(cls, recipient: str) -> "Channel":
        """The channel to a recipient, by what the settings know of it.

        A webhook that promises nothing is `ASKED` in vain: a doubt about it waits for an operator.
        """
        if "://" not in recipient:
            return cls.MAIL
        host = urlsplit(recipient).netloc.lower()
        return cls.KEYED if host in settings.WEBHOOKS_HONOUR_KEY else cls.ASKED


class Message(models.Model):
    """One message to one recipient, so that one answer of the other side says all about it.

    Its channel is chosen once, when it is created. Read from the settings at each sending, a
    change of them would send the same message by another task, whose records do not know it.
    """

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="messages")
    recipient = models.CharField(max_length=2000, validators=[storable, reachable])
    channel = models.CharField(max_length=5, choices=Channel.choices, default=Channel.MAIL)
    subject = models.CharField(max_length=255, validators=[storable, one_line])
    body = models.TextField(validators=[storable])
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.PENDING)
    answer = models.TextField(blank=True, help_text="Why it is not sent, in the server's words.")
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.subject} to {self.recipient}"

    def show(self, status: Status, answer: str = "") -> None:
        """Write the status, unless the message is sent: that is final.

        A worker that was frozen and wakes late must not overwrite what another has done since.
        """
        Message.objects.filter(pk=self.pk).exclude(status=Status.SENT).update(
            status=status,
            answer=answer,
            sent_at=timezone.now() if status == Status.SENT else None,
        )
