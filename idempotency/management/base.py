"""What the commands about one key share."""

from __future__ import annotations

import getpass
import json
import os
import sys
from abc import abstractmethod
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    no_translations,
)
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError, OperationalError, connections
from django.utils.timezone import localtime

from idempotency.checks.databases import aliases
from idempotency.conf import conf
from idempotency.digests import check_scope
from idempotency.exceptions import IdempotencyError
from idempotency.jobs import all_jobs
from idempotency.lookup import hashes_of
from idempotency.models import IdempotencyRecord
from idempotency.parking import Published
from idempotency.storage import storage_for

#: Exit statuses, as a shell says them of a program that a signal has ended.
INTERRUPTED, PIPE_CLOSED = 130, 141


class DatabaseCommand(BaseCommand):
    """A command on the records behind one alias."""

    using: str
    #: Whether the alias was given.
    is_named: bool

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--database", help="Database alias. Default: the setting DATABASE.")

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
            sys.stdout.flush()
        except KeyboardInterrupt:
            self.stderr.write("Interrupted: what was done until then stays done.")
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # Else Python fails to flush it once more. (docs.python.org/3/library/signal.html)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(PIPE_CLOSED)

    @no_translations  # scripts and colleagues read it: it is English, like the log
    def handle(self, *args: Any, **options: Any) -> None:
        # Not earlier: the system checks, which say what is wrong with the settings, come before.
        self.is_named = bool(options["database"])
        self.using = options["database"] or conf().DATABASE
        if self.using not in connections:
            known = ", ".join(connections)
            raise CommandError(f"There is no database alias {self.using!r}. Known are: {known}.")
        try:
            self.act(options)
        except DatabaseError as error:
            said = storage_for(self.using).unmigrated(error)
            if said is None and isinstance(error, OperationalError):
                said = f"The database {self.using!r} cannot be used: {error}"
            if said is None:
                raise
            raise CommandError(said) from error

    @abstractmethod
    def act(self, options: dict[str, Any]) -> None:
        """Do what the command is for, on the alias ``using``."""

    @contextmanager
    def progress(self, done: str) -> Iterator[Callable[[int], None]]:
        """Say how far it is, on a terminal: a log wants no such line."""
        is_terminal = self.stderr.isatty()

        def say(number: int) -> None:
            if is_terminal:
                self.stderr.write(f"\r{number} {done}", ending="")

        try:
            yield say
        finally:
            if is_terminal:
                self.stderr.write("")  # ends the line

    def write_json(self, value: object) -> None:
        self.stdout.write(json.dumps(value, cls=DjangoJSONEncoder, indent=2))


class KeyCommand(DatabaseCommand):
    """A command on the record of one key, which people have in its raw form."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "key",
            help="The key, as text or as JSON (7, [1, 7] for a tuple), or its hash of 32 digits.",
        )
        parser.add_argument(
            "--scope",
            type=_scope,
            help="What the key is unique within. Default: all scopes of this project.",
        )

    def record(self, key: str, scope: str | None) -> IdempotencyRecord:
        """The record of a key.

        Raises:
            CommandError: There is none, or more than one.
        """
        scopes = [scope] if scope else sorted(all_jobs())
        hashes = set(hashes_of(key, scopes))
        found: list[IdempotencyRecord] = []
        for alias in self._places():
            self.using = alias  # an error names it
            records = IdempotencyRecord.objects.using(self.using).with_clock()
            found += records.filter(key_hash__in=hashes).order_by("id")
        if not found:
            raise CommandError(
                f"No record has this key in {_listed(scopes)}. It never ended here, or is "
                "forgotten; a scope that was given to execute() has to be named: --scope."
            )
        if len(places := {str(record._state.db) for record in found}) > 1:
            names = ", ".join(sorted(places))
            raise CommandError(f"Records of it are in {names}: name one by --database.")
        if len(found) > 1:
            names = ", ".join(sorted({record.scope for record in found}))
            raise CommandError(
                f"{len(found)} records fit: {names}. Name one by --scope, or by the hash: "
                + ", ".join(record.key_hash.hex for record in found)
            )
        [self.using] = places
        return found[0]

    def _places(self) -> list[str]:
        """Where a record may be: a key does not tell its shard."""
        return [self.using] if self.is_named else [*aliases()]


class ChangingCommand(KeyCommand):
    """A command that ends what a record waits for, and publishes the messages that wait too."""

    #: What is said of the record, done or only rehearsed.
    done: str
    would: str

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--reason", required=True, type=_reason, help="For those who read the events later."
        )
        parser.add_argument("--dry-run", action="store_true", help="Say it, and change nothing.")
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def act(self, options: dict[str, Any]) -> None:
        record = self.record(options["key"], options["scope"])
        is_rehearsal = options["dry_run"]
        try:
            published = self.change(record, options)
        except IdempotencyError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            about = {"key_hash": record.key_hash.hex, "scope": record.scope}
            self.write_json(about | asdict(published) | {"dry_run": is_rehearsal})
            return
        verb = self.would if is_rehearsal else self.done
        self.stdout.write(f"{verb} {_told(published, is_rehearsal=is_rehearsal)}")

    @abstractmethod
    def change(self, record: IdempotencyRecord, options: dict[str, Any]) -> Published:
        """Change the record, or rehearse it, and publish what waits for it."""

    def claim_of(self, record: IdempotencyRecord) -> UUID:
        """The claim that is meant: nobody's if there was none, so that no later one is meant."""
        return record.claim_id or uuid4()

    @property
    def operator(self) -> str:
        """Who says it, for those who read the events later."""
        try:
            return getpass.getuser()
        except (KeyError, OSError):  # a container's user may have no name
            return f"uid {os.getuid()}"


def _told(done: Published, *, is_rehearsal: bool) -> str:
    """What became of the messages that waited."""
    said = f"{done.published} parked messages {'would be ' if is_rehearsal else ''}published."
    if done.waiting:
        said += f" {done.waiting} could not be (see the log): idempotency_sweep tries again."
    if done.not_kept:
        said += f" {done.not_kept} were not kept: send them again yourself."
    return said


def moment(at: datetime, using: str | None = None) -> str:
    """A time for people, in the project's time zone, which it names.

    Args:
        at: Of a row.
        using: Database alias. Default: the setting ``DATABASE``.
    """
    aware = localtime(storage_for(using or conf().DATABASE).in_utc(at))
    return aware.isoformat(" ", "seconds")


def _scope(text: str) -> str:
    try:
        check_scope(text)
    except TypeError as error:
        raise ArgumentTypeError(str(error)) from None
    return text


def _reason(text: str) -> str:
    if not text.strip():
        raise ArgumentTypeError("it is empty: say why, for those who read the events later.")
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of another encoding than this terminal's
        raise ArgumentTypeError("it is not valid Unicode, and cannot be stored.") from None
    return text


def _listed(scopes: list[str]) -> str:
    return ", ".join(scopes) if scopes else "any scope: this project has none"
