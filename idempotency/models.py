"""The tables: columns, constraints and indexes, nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from idempotency.attempts import provider_key
from idempotency.querysets import RecordQuerySet
from idempotency.states import State


class IdempotencyRecord(models.Model):
    """The durable row for one key within one scope. Made by the app only.

    What the transactional path does not need is NULL there and costs nothing.
    """

    id = models.BigAutoField(primary_key=True)
    key_hash = models.UUIDField(help_text="128 bits of SHA-256 or HMAC-SHA-256.")
    scope = models.TextField(help_text="What keys are unique within.")
    key = models.TextField(null=True, help_text="Readable form, kept when STORE_KEY is set.")
    fingerprint = models.UUIDField(null=True, help_text="Hash of what the key does not touch.")
    state = models.TextField(choices=State.choices)
    attempt = models.PositiveIntegerField(help_text="How often the key was claimed.")
    generation = models.PositiveIntegerField(default=1, help_text="Grows by allow again.")
    claim_id = models.UUIDField(null=True, help_text="Fencing token, random for every claim.")
    policy = models.TextField(null=True, help_text="What a doubt meant when the claim was made.")
    owner = models.TextField(null=True, help_text="host:pid of the last claim.")
    task_id = models.TextField(null=True)
    result = models.TextField(null=True, help_text="JSON text. NULL: no result is stored.")
    error_class = models.TextField(null=True)
    error_message = models.TextField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    claimed_at = models.DateTimeField(null=True, help_text="NULL: when it was created.")
    effect_begun_at = models.DateTimeField(null=True)
    repeat_until = models.DateTimeField(
        null=True, help_text="When the provider forgets the provider key. NULL: never."
    )
    lease_expires_at = models.DateTimeField(
        null=True, help_text="In doubt: until then the provider may still be at work."
    )
    settled_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(help_text="When a settled record is forgotten.")
    deaths = models.PositiveIntegerField(
        null=True, help_text="How many attempts ended without a word. NULL: none."
    )
    exhausted_at = models.DateTimeField(
        null=True,
        help_text="When too many had died: only allow again helps.",
    )
    #: Set by ``RecordQuerySet.with_clock()``, and no column.
    seen_at: datetime

    objects: ClassVar[RecordQuerySet] = RecordQuerySet.as_manager()  # type: ignore[assignment] # its own manager class

    class Meta:
        db_table = "idempotency_record"
        verbose_name = "record"
        ordering = ["-id"]
        permissions = [
            ("resolve_idempotencyrecord", "Can say what happened to a record in doubt"),
            ("release_idempotencyrecord", "Can release the claim of a dead attempt"),
            ("allow_again_idempotencyrecord", "Can allow a settled record again"),
            ("purge_idempotencyrecord", "Can purge forgotten records"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["key_hash"], name="idempotency_record_key_hash"),
            models.CheckConstraint(
                condition=Q(state__in=State.values), name="idempotency_record_state"
            ),
            models.CheckConstraint(
                condition=~Q(state=State.RUNNING)
                | Q(
                    claim_id__isnull=False,
                    policy__isnull=False,
                    claimed_at__isnull=False,
                    lease_expires_at__isnull=False,
                ),
                name="idempotency_record_running",
            ),
            models.CheckConstraint(
                condition=Q(state__in=[State.RUNNING, State.IN_DOUBT]) | Q(lease_expires_at=None),
                name="idempotency_record_lease",
            ),
            models.CheckConstraint(
                condition=~Q(state=State.IN_DOUBT)
                | Q(claim_id__isnull=False, effect_begun_at__isnull=False),
                name="idempotency_record_in_doubt",
            ),
            models.CheckConstraint(
                condition=Q(state__in=[State.SUCCEEDED, State.FAILED], settled_at__isnull=False)
                | Q(state__in=[State.RUNNING, State.IN_DOUBT], settled_at=None),
                name="idempotency_record_settled",
            ),
            models.CheckConstraint(
                condition=Q(state=State.SUCCEEDED) | Q(result=None),
                name="idempotency_record_result",
            ),
            models.CheckConstraint(
                condition=Q(state=State.FAILED) | Q(exhausted_at=None),
                name="idempotency_record_exhausted",
            ),
        ]
        indexes = [
            models.Index(
                fields=["state", "id"],
                condition=~Q(state=State.SUCCEEDED),
                name="idempotency_record_attention",
            )
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.key_hash.hex}"

    @property
    def provider_key(self) -> UUID:
        """What ``current_attempt().provider_key`` was: by it a provider is asked about a doubt."""
        return provider_key(self.key_hash, self.generation)


class Kind(models.TextChoices):
    """What an event says. Stored and never renamed."""

    FAILED = "failed", "failed"
    DUPLICATE = "duplicate", "duplicate answered"
    DEFERRED = "deferred", "deferred"
    TAKEN_OVER = "taken_over", "taken over"
    LEASE_LOST = "lease_lost", "lease lost"
    IN_DOUBT = "in_doubt", "in doubt"
    RESOLVED = "resolved", "resolved"
    RELEASED = "released", "claim released"
    ALLOWED_AGAIN = "allowed_again", "allowed again"
    EXHAUSTED = "exhausted", "exhausted"
    GAVE_UP = "gave_up", "gave up"
    PURGED = "purged", "purged by hand"


class IdempotencyEvent(models.Model):
    """An append-only log, without a foreign key: a refused or rolled-back attempt may concern a
    key whose record never existed."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(db_default=Now())
    kind = models.TextField(choices=Kind.choices)
    key_hash = models.UUIDField()
    scope = models.TextField()
    task_id = models.TextField(null=True)
    worker = models.TextField(null=True, help_text="host:pid")
    attempt = models.PositiveIntegerField(null=True)
    duration = models.DurationField(null=True, help_text="How long the body ran.")
    redelivered = models.BooleanField(default=False)
    note = models.TextField(default="")

    class Meta:
        db_table = "idempotency_event"
        verbose_name = "event"
        ordering = ["-id"]
        indexes = [models.Index(fields=["key_hash", "id"], name="idempotency_event_key")]

    def __str__(self) -> str:
        return f"{self.kind} {self.scope} {self.key_hash.hex}"


class Reason(models.TextChoices):
    """What a parked message waits for. Stored and never renamed."""

    IN_DOUBT = "in_doubt", "until the doubt is resolved"
    EXHAUSTED = "exhausted", "until it is allowed again"
    GAVE_UP = "gave_up", "until the key is free: it was deferred for too long"


class ParkedMessage(models.Model):
    """A message that waits until it may be delivered again."""

    id = models.BigAutoField(primary_key=True)
    key_hash = models.UUIDField()
    task_id = models.TextField()
    reason = models.TextField(choices=Reason.choices)
    message = models.TextField(
        null=True, help_text="The message as JSON. NULL: not kept; send it again yourself."
    )
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "idempotency_parked_message"
        verbose_name = "parked message"
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["key_hash", "task_id"], name="idempotency_parked_message_once"
            )
        ]

    def __str__(self) -> str:
        # Made by Django: mypy's plugin knows of it.
        reason = Reason(self.reason).label
        return f"{self.task_id} waits {reason}: {self.key_hash.hex}"
