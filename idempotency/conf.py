"""Every setting with its default and meaning. The only reader of Django's settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True, slots=True, kw_only=True)
class Conf:
    """The dict ``IDEMPOTENCY`` of the Django settings. Nothing in it is required."""

    DATABASE: str = "default"
    """Alias of the database that holds the records, and the effects of transactional jobs."""

    LEASE: timedelta = timedelta(minutes=5)
    """How long a leased attempt may stay silent before it counts as dead."""

    RETENTION: timedelta = timedelta(days=30)
    """How long a settled record is kept. Longer than the longest time in which the same message
    can come back: afterwards it runs again."""

    STORE_RESULT: bool = True
    """Whether results are stored, so that a duplicate is answered with the first one's result."""

    MAX_RESULT_BYTES: int = 256 * 1024
    """The largest result that is stored, in bytes of its JSON text."""

    STORE_KEY: bool = False
    """Whether a readable form of the key, at most 200 characters, is kept beside its hash."""

    STORE_MESSAGE: bool = True
    """Whether a message that must wait is kept with its arguments, so that it can be published
    again. Without, only its task id is kept, and somebody has to send it again."""

    DEFER_FOR: timedelta = timedelta(days=1)
    """How long a message whose key is running elsewhere is deferred before it is parked; at least
    twice the lease, after which a dead holder's key is free."""

    MAX_REDELIVERIES: int = 10
    """How many attempts on a key may die before no delivery claims it any more. Below the delivery
    limit of the queue, if it has one (RabbitMQ's quorum queues: 20). A key that may have had an
    effect outside is left in doubt instead."""

    KEY_SECRETS: tuple[str | None, ...] = ()
    """Secrets for HMAC-SHA-256; None is plain SHA-256, which is also used when there are none.
    The first signs; all are locked and looked up. Rotate in two deploys, first ``[old, new]``
    everywhere, then ``[new, old]``; introduce the first one as ``[None, new]`` and so on. Drop the
    old one only after the retention, and when no doubt is left: what it signed is forgotten then.
    While there are two, transactional jobs must run under READ COMMITTED, Django's default."""


def conf() -> Conf:
    """Read the settings now; never cached, so ``override_settings`` just works.

    Raises:
        ImproperlyConfigured: An option is not known, or the secrets are not a list of texts.
    """
    given = getattr(settings, "IDEMPOTENCY", {})
    unknown = given.keys() - {field.name for field in fields(Conf)}
    if unknown:
        raise ImproperlyConfigured(
            f"Unknown IDEMPOTENCY settings: {', '.join(sorted(unknown))}. "
            f"Known are: {', '.join(field.name for field in fields(Conf))}."
        )
    secrets = given.get("KEY_SECRETS", ())
    if isinstance(secrets, str) or not all(
        s is None or (isinstance(s, str) and s) for s in secrets
    ):
        raise ImproperlyConfigured(
            "IDEMPOTENCY['KEY_SECRETS'] must be a list of secrets, each a str that is not empty or "
            "None for none."
        )
    return Conf(**given)
