"""Settings of the example project.

The embedded servers serve out of the box; ``DATABASE_URL`` and ``CELERY_BROKER_URL`` point
elsewhere instead, ``DATABASE_URL=sqlite:////tmp/db.sqlite3`` to a file.
"""

import os
from datetime import timedelta
from pathlib import Path

import django
from psycopg.conninfo import conninfo_to_dict

from project import services

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
SECRET_KEY = "an example project, served on the loopback address only"  # noqa: S105 no secret
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "idempotency",
    "notifications",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


def database(url: str) -> dict[str, object]:
    """The entry of ``DATABASES`` for a URL of PostgreSQL, or ``sqlite:///`` and a path."""
    if url.startswith("sqlite:///"):
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": url.removeprefix("sqlite:///"),
            # A transaction that becomes a writer later is refused while another writes.
            "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 5},
            "TEST": {"NAME": f"{url.removeprefix('sqlite:///')}.test"},  # by default: in memory
        }
    given = conninfo_to_dict(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": given.pop("dbname", ""),
        "USER": given.pop("user", ""),
        "PASSWORD": given.pop("password", ""),
        "HOST": given.pop("host", ""),
        "PORT": given.pop("port", ""),
        "OPTIONS": given,
    }


DATABASES = {"default": database(os.environ.get("DATABASE_URL") or services.database_url())}

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL") or services.broker_url()
CELERY_RESULT_BACKEND = os.environ.get("CELERY_RESULT_BACKEND", "disabled://")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# Acknowledge after the body, and give the message back when a pool process dies: without both,
# a killed worker loses its message and there is nothing left to be idempotent about.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # Seconds after which an unacknowledged message is delivered again, and how often and how
    # eagerly the worker looks for one (kombu 5.7; without the last two: about every 100 s).
    "visibility_timeout": int(os.environ.get("VISIBILITY_TIMEOUT", "60")),
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
    # A worker killed while it looks leaves a lock behind, under which nobody else looks.
    "unacked_mutex_expire": 10,
}

_MAIL_HOST = os.environ.get("EMAIL_HOST", "127.0.0.1")
_MAIL_PORT = int(os.environ.get("EMAIL_PORT", "1025"))
# Django's default is to wait for ever. Shorter than the lease, so that a mail server that hangs
# ends as an error of the body and not as a lease that ran out.
_MAIL_TIMEOUT = int(os.environ.get("EMAIL_TIMEOUT", "10"))
if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {
            "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
            "OPTIONS": {"host": _MAIL_HOST, "port": _MAIL_PORT, "timeout": _MAIL_TIMEOUT},
        }
    }
else:
    EMAIL_HOST, EMAIL_PORT, EMAIL_TIMEOUT = _MAIL_HOST, _MAIL_PORT, _MAIL_TIMEOUT

# Where the mail server's log is asked for a Message-ID after a doubt. Without it nobody can tell,
# and the doubt waits for an operator.
MAIL_LOG_URL = os.environ.get("MAIL_LOG_URL", "")

# What a webhook's receiver promises, by the host (host:port, where the URL has a port): it knows a
# repeat by its Idempotency-Key for 24 hours at least, or it can be asked. One that is named
# nowhere promises nothing: a doubt about it waits for an operator.
WEBHOOKS_HONOUR_KEY = frozenset(os.environ.get("WEBHOOKS_HONOUR_KEY", "").lower().split())
WEBHOOKS_CAN_BE_ASKED = frozenset(os.environ.get("WEBHOOKS_CAN_BE_ASKED", "").lower().split())
WEBHOOK_TIMEOUT = 10  # seconds; for the same reason as _MAIL_TIMEOUT

# `celery --app=project beat` asks about what no further delivery asks about, and tidies.
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "idempotency.sweep", "schedule": timedelta(minutes=1)},
    "purge": {"task": "idempotency.purge", "schedule": timedelta(days=1)},
}

IDEMPOTENCY = {
    "LEASE": timedelta(seconds=float(os.environ.get("LEASE_SECONDS", "60"))),
    "STORE_KEY": os.environ.get("STORE_KEY") == "1",
}
