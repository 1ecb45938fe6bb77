"""Every setting with its default and meaning. The only reader of Django's settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string


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

    EVENT_RETENTION: timedelta = timedelta(days=90)
    """How long events are kept, which tell what happened to a key."""

    PURGE_BATCH: int = 20_000
    """About how many rows a purge looks at in one transaction. On PostgreSQL it takes whole pages
    of the table, one for each 40 of these rows."""

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

    REDACT: str | None = None
    """Dotted path of a function ``redact(field, text)`` that returns what may be shown of a text:
    of a key, a result, a parked message, an error or a traceback, in the admin, the commands and
    the log. What is stored stays as it is. Without, everything is shown as it is."""


DEFAULTS = {field.name: field.default for field in fields(Conf)}

#: By these another package's settings are known, which uses the same name: drf-idempotency 1.0.
FOREIGN = frozenset({"BACKEND", "BACKEND_OPTIONS", "HEADER_NAME", "METHODS", "TTL_SECONDS"})


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with the settings. ``number`` is stable: the check's id ends in it."""

    number: int
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.message} {self.hint}"


def problems() -> list[Problem]:
    """All that is wrong with the dict ``IDEMPOTENCY``; none when it can be used."""
    given = getattr(settings, "IDEMPOTENCY", {})
    if not isinstance(given, dict):
        message = f"IDEMPOTENCY must be a dict, not {type(given).__name__}."
        return [Problem(1, message, "Every option has a default: {} is enough.")]
    unknown = [_unknown(name) for name in given if name not in DEFAULTS]
    if unknown and FOREIGN & given.keys():
        unknown = [
            Problem(
                2,
                f"IDEMPOTENCY contains {', '.join(sorted(FOREIGN & given.keys()))}, which belong "
                "to drf-idempotency: both packages use this name.",
                "One project cannot use both.",
            )
        ]
    refused = [_refused(name, value) for name, value in given.items() if name in DEFAULTS]
    return unknown + [problem for problem in refused if problem]


def _unknown(name: object) -> Problem:
    near = get_close_matches(str(name).upper(), DEFAULTS, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known are: {', '.join(DEFAULTS)}."
    return Problem(2, f"IDEMPOTENCY has an unknown option {name!r}.", hint)


def _refused(name: str, value: object) -> Problem | None:
    default = DEFAULTS[name]
    shown = repr(value)
    if isinstance(default, bool):
        is_right, wanted = isinstance(value, bool), "True or False"
    elif isinstance(default, timedelta):
        is_right = isinstance(value, timedelta) and value > timedelta(0)
        wanted = "a positive timedelta"
    elif isinstance(default, int):
        is_right = isinstance(value, int) and not isinstance(value, bool) and value > 0
        wanted = "a positive int"
    elif name == "REDACT":
        is_right, wanted = _is_function(value), "the dotted path of a function, or None"
    elif isinstance(default, str):
        is_right, wanted = isinstance(value, str) and bool(value), "the alias of a database"
    else:
        is_right = isinstance(value, list | tuple) and all(map(_is_secret, value))
        wanted = "a list of secrets, each a str that is not empty or None for none"
        shown = f"another {type(value).__name__}"  # it may hold a secret
    if is_right:
        return None
    return Problem(
        3, f"IDEMPOTENCY[{name!r}] must be {wanted}, not {shown}.", f"Its default: {default!r}."
    )


def _is_function(path: object) -> bool:
    if path is None:
        return True
    try:
        return callable(import_string(path))  # type: ignore[arg-type] # it says itself if it is none
    except (ImportError, AttributeError, TypeError):
        return False


def _is_secret(value: object) -> bool:
    return value is None or (isinstance(value, str) and value != "")


#: What is read where the project has no such setting.
_UNSET: dict[str, Any] = {}
#: The dict that was read last, what was in it, and what it came to.
_last: tuple[object, dict[str, Any], Conf] = (_UNSET, {}, Conf())


def conf() -> Conf:
    """Read the settings now, so that ``override_settings`` just works; a dict that has not changed
    is judged once.

    Raises:
        ImproperlyConfigured: An option is not known, or has a value of a wrong type or range.
    """
    global _last
    given = getattr(settings, "IDEMPOTENCY", _UNSET)
    known, then, read = _last
    if given is known and given == then:
        return read
    if found := problems():
        raise ImproperlyConfigured(" ".join(map(str, found)))
    read = Conf(**given)
    _last = given, dict(given), read
    return read


def has_views() -> bool:
    """Whether the project answers requests, and not only messages."""
    return hasattr(settings, "ROOT_URLCONF")


def mailers_without_timeout() -> list[str]:
    """The mailers over SMTP that wait for ever for their server, as the settings call them.

    A project that leaves ``EMAIL_HOST`` as it is by default is taken for one that sends no mail.
    """
    smtp = "django.core.mail.backends.smtp.EmailBackend"
    if hasattr(settings, "MAILERS"):  # Django 6.1
        mailers: dict[str, dict[str, Any]] = settings.MAILERS
        return [
            f"MAILERS[{name!r}]"
            for name, mailer in mailers.items()
            if mailer.get("BACKEND") == smtp and not mailer.get("OPTIONS", {}).get("timeout")
        ]
    if django.VERSION >= (6, 1):
        return []  # to read the old ones is deprecated
    waits = settings.EMAIL_BACKEND == smtp and not settings.EMAIL_TIMEOUT
    return ["EMAIL_HOST"] if waits and settings.EMAIL_HOST != "localhost" else []
