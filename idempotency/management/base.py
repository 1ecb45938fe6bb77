"""What the commands about one key share."""

from __future__ import annotations

import getpass
import json
import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections

from idempotency.conf import conf
from idempotency.digests import digest
from idempotency.exceptions import IdempotencyError
from idempotency.jobs import all_jobs
from idempotency.models import IdempotencyRecord
from idempotency.parking import Published


class DatabaseCommand(BaseCommand):
    """A command on the records behind one alias."""

    using: str

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--database", help="Database alias. Default: the setting DATABASE.")

    def handle(self, *args: Any, **options: Any) -> None:
        # Not earlier: the system checks, which say what is wrong with the settings, come before.
        self.using = options["database"] or conf().DATABASE
        if self.using not in connections:
            known = ", ".join(connections)
            raise CommandError(f"There is no database alias {self.using!r}. Known are: {known}.")
        self.act(options)

    @abstractmethod
    def act(self, options: dict[str, Any]) -> None:
        """Do what the command is for, on the alias ``using``."""

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
            "--scope", help="What the key is unique within. Default: all scopes of this project."
        )

    def record(self, key: str, scope: str | None) -> IdempotencyRecord:
        """The record of a key.

        Raises:
            CommandError: There is none, or more than one.
        """
        scopes = [scope] if scope else sorted(all_jobs())
        hashes = set(_hashes(key, scopes))
        found: list[IdempotencyRecord] = list(
            IdempotencyRecord.objects.using(self.using).filter(key_hash__in=hashes).order_by("id")
        )
        if not found:
            raise CommandError(
                f"No record has this key in {_listed(scopes)}. It never ended here, or is "
                "forgotten; a scope that was given to execute() has to be named: --scope."
            )
        if len(found) > 1:
            names = ", ".join(sorted({record.scope for record in found}))
            raise CommandError(
                f"{len(found)} records fit: {names}. Name one by --scope, or by the hash: "
                + ", ".join(record.key_hash.hex for record in found)
            )
        return found[0]

    @property
    def operator(self) -> str:
        """Who says it, for those who read the events later."""
        try:
            return getpass.getuser()
        except (KeyError, OSError):  # a container's user may have no name
            return f"uid {os.getuid()}"

    def published(self, done: Published) -> str:
        """What became of the messages that waited."""
        said = f"{done.published} parked messages published."
        if done.waiting:
            said += f" {done.waiting} could not be (see the log): idempotency_sweep tries again."
        if done.not_kept:
            said += f" {done.not_kept} were not kept: send them again yourself."
        return said


def _hashes(text: str, scopes: Iterable[str]) -> Iterator[UUID]:
    with suppress(ValueError):
        yield UUID(text)
    values: list[object] = [text]
    with suppress(ValueError):
        values.append(json.loads(text))
    for scope in scopes:
        for value in values:
            try:
                yield from digest(value, scope=scope, secrets=conf().KEY_SECRETS).hashes
            except IdempotencyError:
                continue  # no key can look like this: 1e999, null


def _listed(scopes: list[str]) -> str:
    return ", ".join(scopes) if scopes else "any scope: this project has none"
