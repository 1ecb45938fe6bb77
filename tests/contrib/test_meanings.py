"""Kinds of tasks and of calls, each with the same meaning."""

import celery
import pytest
from celery import shared_task
from django.db import connection, transaction
from django.http import JsonResponse
from django.test import override_settings
from django.urls import path

from idempotency import Leased, OnDoubt, idempotent
from idempotency.exceptions import InsideTransaction
from idempotency.models import IdempotencyRecord
from project.celery import app
from tests.jobs.models import Effect, effects
from tests.jobs.tasks import Order, effect, next_step, transactional, validated

pytestmark = pytest.mark.django_db(transaction=True)


@shared_task(bind=True)
@idempotent(key="key", policy=Leased(on_doubt=OnDoubt.HOLD))
def bound(self, key):
    effect(key, self.name)
    return self.request.id


def atomic_view(request):
    return JsonResponse({"result": transactional.delay("key", "value").get()})


@transaction.non_atomic_requests
def plain_view(request):
    return atomic_view(request)


urlpatterns = [path("atomic", atomic_view), path("plain", plain_view)]


@pytest.fixture
def eager():
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    yield
    app.conf.update(task_always_eager=False, task_eager_propagates=False)


def test_a_bound_task_is_called_once(eager):
    first = bound.delay("key")
    assert first.get() == first.id
    assert bound.delay("key").get() == first.id
    assert effects("key", bound.name) == 1


@pytest.mark.skipif(celery.VERSION < (5, 5), reason="Celery 5.5 has pydantic=True")
def test_a_task_with_models_is_replayed_as_what_celery_sends():
    for _ in range(2):
        done = validated.apply((Order(number=7).model_dump(),))
        assert done.get() == {"number": 7}
    assert effects("7", "validated") == 1


def test_eager_duplicates_are_answered(eager):
    for _ in range(2):
        chain = transactional.s("key", "value") | next_step.s("key")
        assert chain.apply_async().get() == "value"
    assert (effects("key"), effects("key", "next step")) == (1, 1)


def test_a_direct_call_is_answered():
    assert [transactional("key", "value"), transactional("key", "value")] == ["value"] * 2
    assert Effect.objects.count() == 1


@pytest.fixture
def atomic_requests(monkeypatch, settings):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    with override_settings(ROOT_URLCONF=__name__):
        yield


def test_an_eager_task_inside_of_an_atomic_request_is_refused(client, eager, atomic_requests):
    with pytest.raises(InsideTransaction, match="non_atomic_requests"):
        client.get("/atomic")
    assert (Effect.objects.count(), IdempotencyRecord.objects.count()) == (0, 0)


def test_an_eager_task_in_a_request_that_is_not_atomic_runs_once(client, eager, atomic_requests):
    for _ in range(2):
        assert client.get("/plain").json() == {"result": "value"}
    assert Effect.objects.count() == 1
