"""The app without Celery, and in one of the two runs without the admin."""

import io
import logging
from importlib.util import find_spec

import pytest
from django.apps import apps
from django.core import checks
from django.core.management import call_command

from idempotency import Leased, OnDoubt, execute, idempotent
from idempotency.exceptions import InDoubt, KeyReused
from idempotency.models import IdempotencyRecord
from tests.jobs.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)


@idempotent(key="order_id")
def ship(order_id: int, kind: str = "parcel") -> str:
    Effect.objects.create(key=str(order_id), note="effect", pid=1)
    return kind


@idempotent(key="order_id", policy=Leased(on_doubt=OnDoubt.HOLD))
def charge(order_id: int) -> str:
    raise TimeoutError


def run(command: str, *arguments: str) -> str:
    output = io.StringIO()
    call_command(command, *arguments, stdout=output)
    return output.getvalue()


def test_there_is_no_celery_here():
    assert find_spec("celery") is None
    assert find_spec("kombu") is None


def test_the_admin_page_needs_the_admin_and_nothing_else_does(settings):
    without = settings.SETTINGS_MODULE.endswith("_without_admin")
    assert apps.is_installed("django.contrib.admin") is not without
    assert apps.is_installed("django.contrib.contenttypes") is not without


def test_the_checks_find_nothing_and_no_migration_is_missing():
    assert checks.run_checks(databases=["default"]) == []
    assert "No changes detected" in run("makemigrations", "--check", "--dry-run")


def test_a_decorated_function_and_a_call_have_one_effect_for_a_key():
    assert ship(7) == ship(order_id=7) == "parcel"
    assert Effect.objects.count() == 1
    with pytest.raises(KeyReused):
        ship(7, kind="letter")
    outcomes = [execute(lambda: ship(8), key=8, scope="view") for _ in range(2)]
    assert [(each.result, each.replayed) for each in outcomes] == [
        ("parcel", False),
        ("parcel", True),
    ]
    assert Effect.objects.count() == 2


def test_a_doubt_is_resolved_by_commands(caplog):
    with pytest.raises(TimeoutError):
        charge(7)
    with pytest.raises(InDoubt):
        charge(7)
    assert "says what happened" in run("idempotency_show", "7")
    reason = ("--reason", "seen in the provider's list")
    run("idempotency_resolve", "7", "--happened", "--result", '"receipt"', *reason)
    assert charge(7) == "receipt"
    run("idempotency_allow_again", "7", *reason)
    assert IdempotencyRecord.objects.get().generation == 2
    for command in ("idempotency_sweep", "idempotency_purge", "idempotency_stats"):
        assert run(command)
    errors = [line for line in caplog.records if line.levelno >= logging.ERROR]
    assert {line.idempotency_event for line in errors} == {"doubt_found"}
