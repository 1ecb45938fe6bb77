"""A project that has Django, the app and its admin, and no Celery. (``project`` imports it.)"""

import os

from psycopg.conninfo import conninfo_to_dict

_SERVER = conninfo_to_dict(os.environ["DATABASE_URL"])

SECRET_KEY = "of tests"  # noqa: S105 no secret
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
ROOT_URLCONF = "tests.bare.urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "idempotency",
    "tests.jobs",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
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
_DEFAULT = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": _SERVER["dbname"],
    "USER": _SERVER["user"],
    "PASSWORD": _SERVER["password"],
    "HOST": _SERVER["host"],
    "PORT": _SERVER["port"],
}
DATABASES = {
    "default": _DEFAULT,
    "asked": {**_DEFAULT, "TEST": {"MIRROR": "default"}},
    "sqlite": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},  # only named
}
