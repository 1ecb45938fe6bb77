"""The tables: columns, constraints and indexes, nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from idempotency.attempts import provider_key
from idempotency.querysets import RecordQuerySet
from idempotency.states import State


class IdempotencyRecord(models.Model):
    """The durable row for one key within one scope. Made by the app only.

    What the transactional path does not need is NULL there and costs nothing.
    """

    id = models.BigAutoField(primary_key=True)
    key_hash = models.UUIDField(_("key hash"), help_text=_("128 bits of SHA-256 or HMAC-SHA-256."))
    scope = models.TextField(_("scope"), help_text=_("What keys are unique within."))
    key = models.TextField(
        _("key"), null=True, help_text=_("Readable form, kept when STORE_KEY is set.")
    )
    fingerprint = models.UUIDField(
        _("fingerprint"), null=True, help_text=_("Hash of what the key does not touch.")
    )
    state = models.TextField(_("state"), choices=State.choices)
    attempt = models.PositiveIntegerField(
        _("attempt"), help_text=_("How often the key was claimed.")
    )
    generation = models.PositiveSmallIntegerField(
        _("generation"), default=1, help_text=_("Grows by allow again.")
    )
    claim_id = models.UUIDField(
        _("claim id"), null=True, help_text=_("Fencing token, random for every claim.")
    )
    policy = models.TextField(
        _("policy"), null=True, help_text=_("What a doubt meant when the claim was made.")
    )
    owner = models.TextField(_("owner"), null=True, help_text=_("host:pid of the last claim."))
    task_id = models.TextField(_("task id"), null=True)
    result = models.TextField(
        _("result"), null=True, help_text=_("JSON text. NULL: no result is stored.")
    )
    error_class = models.TextField(_("error class"), null=True)
    error_message = models.TextField(_("error message"), null=True)
    created_at = models.DateTimeField(_("created at"), db_default=Now())
    claimed_at = models.DateTimeField(
        _("claimed at"), null=True, help_text=_("NULL: when it was created.")
    )
    effect_begun_at = models.DateTimeField(_("effect begun at"), null=True)
    repeat_until = models.DateTimeField(
        _("repeat until"),
        null=True,
        help_text=_("When the provider forgets the provider key. NULL: never."),
    )
    lease_expires_at = models.DateTimeField(
        _("lease expires at"),
        null=True,
        help_text=_("In doubt: until then the provider may still be at work."),
    )
    settled_at = models.DateTimeField(_("settled at"), null=True)
    expires_at = models.DateTimeField(
        _("expires at"), help_text=_("When a settled record is forgotten.")
    )
    deaths = models.PositiveIntegerField(
        _("deaths"), null=True, help_text=_("How many attempts ended without a word. NULL: none.")
    )
    exhausted_at = models.DateTimeField(
        _("exhausted at"),
        null=True,
        help_text=_("When too many had died: only allow again helps."),
    )
    #: Set by ``RecordQuerySet.with_clock()``, and no column.
    seen_at: datetime

    objects: ClassVar[RecordQuerySet] = RecordQuerySet.as_manager()  # type: ignore[assignment] # its own manager class

    class Meta:
        db_table = "idempotency_record"
        verbose_name = _("record")
        verbose_name_plural = _("records")
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
            ),
            # Few, among failures that can be millions. What is not exhausted is in it never, so
            # that it costs neither a first execution nor a failure a byte of WAL.
            models.Index(
                fields=["id"],
                condition=Q(exhausted_at__isnull=False),
                name="idempotency_exhausted",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.key_hash.hex}"

    @property
    def provider_key(self) -> UUID:
        """What ``current_attempt().provider_key`` was: by it a provider is asked about a doubt."""
        return provider_key(self.key_hash, self.generation)


class Kind(models.TextChoices):
    """What an event says. Stored and never renamed."""

    FAILED = "failed", _("failed")
    DUPLICATE = "duplicate", _("duplicate answered")
    DEFERRED = "deferred", _("deferred")
    TAKEN_OVER = "taken_over", _("taken over")
    LEASE_LOST = "lease_lost", _("lease lost")
    IN_DOUBT = "in_doubt", _("in doubt")
    RESOLVED = "resolved", _("resolved")
    RELEASED = "released", _("claim released")
    ALLOWED_AGAIN = "allowed_again", _("allowed again")
    EXHAUSTED = "exhausted", _("exhausted")
    GAVE_UP = "gave_up", _("gave up")
    PURGED = "purged", _("purged by hand")


class IdempotencyEvent(models.Model):
    """An append-only log, without a foreign key: a refused or rolled-back attempt may concern a
    key whose record never existed."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(_("at"), db_default=Now())
    kind = models.TextField(_("kind"), choices=Kind.choices)
    key_hash = models.UUIDField(_("key hash"))
    scope = models.TextField(_("scope"))
    task_id = models.TextField(_("task id"), null=True)
    worker = models.TextField(_("worker"), null=True, help_text=_("host:pid"))
    attempt = models.PositiveIntegerField(_("attempt"), null=True)
    duration = models.DurationField(_("duration"), null=True, help_text=_("How long the body ran."))
    redelivered = models.BooleanField(_("redelivered"), default=False)
    note = models.TextField(_("note"), default="")

    class Meta:
        db_table = "idempotency_event"
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["-id"]
        indexes = [models.Index(fields=["key_hash", "id"], name="idempotency_event_key")]

    def __str__(self) -> str:
        kind = dict(Kind.choices).get(self.kind, self.kind)
        return f"{kind} {self.scope} {self.key_hash.hex}"


class Reason(models.TextChoices):
    """What a parked message waits for. Stored and never renamed."""

    IN_DOUBT = "in_doubt", _("until the doubt is resolved")
    EXHAUSTED = "exhausted", _("until it is allowed again")
    GAVE_UP = "gave_up", _("until the key is free: it was deferred for too long")


class ParkedMessage(models.Model):
    """A message that waits until it may be delivered again."""

    id = models.BigAutoField(primary_key=True)
    key_hash = models.UUIDField(_("key hash"))
    task_id = models.TextField(_("task id"))
    reason = models.TextField(_("reason"), choices=Reason.choices)
    message = models.TextField(
        _("message"),
        null=True,
        help_text=_("The message as JSON. NULL: not kept; send it again yourself."),
    )
    created_at = models.DateTimeField(_("created at"), db_default=Now())

    class Meta:
        db_table = "idempotency_parked_message"
        verbose_name = _("parked message")
        verbose_name_plural = _("parked messages")
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["key_hash", "task_id"], name="idempotency_parked_message_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.task_id} {self.key_hash.hex}"
