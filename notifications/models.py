"""A campaign and its messages, one recipient each."""

from django.core.exceptions import ValidationError
from django.core.validators import ProhibitNullCharactersValidator
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


class Message(models.Model):
    """One mail to one recipient, so that one answer of the mail server says all about it."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="messages")
    recipient = models.EmailField(validators=[storable])
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
