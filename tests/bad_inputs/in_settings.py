"""What is refused when the settings are read."""

from datetime import timedelta

from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.utils.connection import ConnectionDoesNotExist

from idempotency import execute
from tests.bad_inputs.case import SCOPE, Moment, Refused
from tests.execution.bodies import effect


def configured(**settings):
    """An act: the first call under these settings."""

    def act():
        with override_settings(IDEMPOTENCY=settings):
            execute(effect, key=7, scope=SCOPE)

    return act


def configured_as_a_list():
    with override_settings(IDEMPOTENCY=["LEASE"]):
        execute(effect, key=7, scope=SCOPE)


SETTINGS = Moment(
    title="When the settings are read",
    text="`manage.py check` reports it under the id of [its check](checks.md), and every call and "
    "command raises it. Nothing runs until it is mended.",
    cases=(
        Refused(
            given="`IDEMPOTENCY` that is no dict",
            act=configured_as_a_list,
            error=ImproperlyConfigured,
            says="IDEMPOTENCY must be a dict, not list. Every option has a default: {} is enough.",
        ),
        Refused(
            given="the dict of another package",
            act=configured(BACKEND="idempotency.backends.Redis", TTL_SECONDS=60),
            error=ImproperlyConfigured,
            says=(
                "IDEMPOTENCY contains BACKEND, TTL_SECONDS, which belong to drf-idempotency: "
                "both packages use this name. One project cannot use both."
            ),
        ),
        Refused(
            given="a misspelt option",
            act=configured(RETENSION=timedelta(days=1)),
            error=ImproperlyConfigured,
            says="IDEMPOTENCY has an unknown option 'RETENSION'. Did you mean 'RETENTION'?",
        ),
        Refused(
            given="a duration as a number",
            act=configured(LEASE=600),
            error=ImproperlyConfigured,
            says=(
                "IDEMPOTENCY['LEASE'] must be a positive timedelta, not 600. Its default: "
                "datetime.timedelta(seconds=300)."
            ),
        ),
        Refused(
            given="`LEASE` of zero",
            act=configured(LEASE=timedelta(0)),
            error=ImproperlyConfigured,
            says=(
                "IDEMPOTENCY['LEASE'] must be a positive timedelta, not datetime.timedelta(0). "
                "Its default: datetime.timedelta(seconds=300)."
            ),
        ),
        Refused(
            given="`RETENTION` below zero",
            act=configured(RETENTION=timedelta(days=-1)),
            error=ImproperlyConfigured,
            says=(
                "IDEMPOTENCY['RETENTION'] must be a positive timedelta, not "
                "datetime.timedelta(days=-1). Its default: datetime.timedelta(days=30)."
            ),
        ),
        Refused(
            given="`PURGE_BATCH` of zero",
            act=configured(PURGE_BATCH=0),
            error=ImproperlyConfigured,
            says="IDEMPOTENCY['PURGE_BATCH'] must be a positive int, not 0. Its default: 20000.",
        ),
        Refused(
            given="`MAX_RESULT_BYTES = True`",
            act=configured(MAX_RESULT_BYTES=True),
            error=ImproperlyConfigured,
            says=(
                "IDEMPOTENCY['MAX_RESULT_BYTES'] must be a positive int, not True. Its default:"
                " 262144."
            ),
        ),
        Refused(
            given="one secret instead of a list",
            act=configured(KEY_SECRETS="hunter2"),
            error=ImproperlyConfigured,
            says=(
                "IDEMPOTENCY['KEY_SECRETS'] must be a list of secrets, each a str that is not "
                "empty or None for none, not another str. Its default: ()."
            ),
        ),
        Refused(
            given="an alias that is not there",
            act=configured(DATABASE="nowhere"),
            error=ConnectionDoesNotExist,
            says="The connection 'nowhere' doesn't exist.",
            do="Name one of `DATABASES`; check E004 lists them.",
        ),
    ),
)
