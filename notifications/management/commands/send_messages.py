"""``manage.py send_messages FILE``: a file of messages becomes a campaign, and is sent."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from hashlib import sha256
from pathlib import Path
from typing import Any

from celery import chain
from django.core.management.base import BaseCommand, CommandError
from kombu.exceptions import OperationalError

from notifications.models import NAME_LENGTH, Campaign, Status
from notifications.rows import Rows, Unreadable, read
from notifications.tasks import create_messages, enqueue_each

PART = 100
"""Rows per Celery message, so that neither it nor a transaction grows with the file."""


class Command(BaseCommand):
    help = """Send the messages of a file, each once.

FILE is CSV with the header recipient,subject,body (.csv), or has one JSON object with these
names per line (.jsonl, .ndjson); UTF-8. A recipient is a mail address, or the http(s) URL of
a webhook, which gets subject and body as JSON. Bad rows are reported with line and reason, the rest
is sent. The same file again is the same campaign: nothing is sent twice, and what is not sent
yet is tried again. The exit status is 1 when nothing could be sent."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument(
            "--campaign",
            metavar="NAME",
            help="name of the campaign; default: the file's name and a digest of its content",
        )

    def handle(self, *args: Any, file: Path, campaign: str | None, **options: Any) -> None:
        try:
            content = file.read_bytes()
            rows = read(file.name, content)
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}") from error
        except Unreadable as error:
            raise CommandError(str(error)) from error
        for line, reason in rows.bad:
            self.stderr.write(f"line {line}: {reason}")
        if not rows.good:
            raise CommandError(f"Nothing to send: {file} has no good row ({len(rows.bad)} bad).")
        self.send(self.campaign(campaign, file.name, sha256(content).hexdigest()), rows)

    def campaign(self, name: str | None, file_name: str, digest: str) -> Campaign:
        """The campaign of this content; the same one when the file is given again."""
        name = name or f"{file_name} {digest[:12]}"
        name = name.encode(errors="replace").decode()  # a file's name may be no UTF-8
        if len(name) > NAME_LENGTH:
            raise CommandError(f"The campaign's name is longer than {NAME_LENGTH} characters.")
        campaign, created = Campaign.objects.get_or_create(name=name, defaults={"digest": digest})
        if campaign.digest != digest:
            raise CommandError(f"Campaign {name!r} has another file. Give this one another name.")
        if not created:
            sent = campaign.messages.filter(status=Status.SENT).count()
            self.stdout.write(f"Given before: {counted(sent, 'message')} sent, and not sent again.")
        return campaign

    def send(self, campaign: Campaign, rows: Rows) -> None:
        """Publish the rows in parts, each a chain of its own."""
        try:
            for part, start in enumerate(range(0, len(rows.good), PART)):
                create = create_messages.s(campaign.pk, part, rows.good[start : start + PART])
                chain(create, enqueue_each.s()).delay()
        except OperationalError as error:
            raise CommandError(
                f"The broker cannot be reached: {error}. Nothing is lost: run the command again, "
                "and what was published already is not sent twice."
            ) from error
        self.stdout.write(
            f"Campaign {campaign.name!r}: {counted(len(rows.good), 'message')} given to the "
            f"workers, {counted(len(rows.bad), 'bad row')} left out."
        )


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
