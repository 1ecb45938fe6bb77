"""Kinds of tasks and of calls, each with the same meaning."""

import uuid

import celery
import pytest
from celery import Task, shared_task
from django.db import connection, transaction
from django.http import JsonResponse
from django.test import override_settings
from django.urls import path
from pydantic import BaseModel

from idempotency import Leased, OnDoubt, Transactional, idempotent
from idempotency.exceptions import InsideTransaction, KeyNotHashable
from idempotency.models import IdempotencyRecord
from project.celery import app
from tests.jobs.models import Effect, effects
from tests.jobs.tasks import effect, next_step

pytestmark = pytest.mark.django_db(transaction=True)


HOLD = Leased(on_doubt=OnDoubt.HOLD)
POLICIES = pytest.mark.parametrize("policy", [Transactional(), HOLD], ids=["transactional", "held"])


def make(body, policy, key="key", **options):
    """A task of its own."""
    task = idempotent(key=key, policy=policy, scope=uuid.uuid4().hex)(body)
    return shared_task(name=uuid.uuid4().hex, **options)(task)


@pytest.fixture
def job(policy):
    def body(key, value=None):
        effect(key, "effect")
        return value

    return make(body, policy)


def atomic_view(request):
    return JsonResponse({"result": app.tasks[request.GET["task"]].delay("key", "value").get()})


@transaction.non_atomic_requests
def plain_view(request):
    return atomic_view(request)


urlpatterns = [path("atomic", atomic_view), path("plain", plain_view)]


@pytest.fixture
def eager():
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    yield
    app.conf.update(task_always_eager=False, task_eager_propagates=False)


@POLICIES
def test_a_bound_task_is_called_once(policy, eager):
    def body(self, key):
        effect(key, "effect")
        return self.request.id

    bound = make(body, policy, bind=True)
    first = bound.delay("key")
    assert first.get() == first.id
    assert bound.delay("key").get() == first.id
    assert effects("key") == 1


class Order(BaseModel):
    number: int


@POLICIES
@pytest.mark.skipif(celery.VERSION < (5, 5), reason="Celery 5.5 has pydantic=True")
def test_a_task_with_models_is_replayed_as_what_celery_sends(policy):
    def body(order: Order) -> Order:
        effect("key", "effect")
        return order

    validated = make(body, policy, key="order.number", pydantic=True)
    for _ in range(2):
        assert validated.apply(({"number": 7},)).get() == {"number": 7}
    assert effects("key") == 1


@pytest.mark.skipif(celery.VERSION < (5, 5), reason="Celery 5.5 has pydantic=True")
def test_a_model_that_no_path_of_the_key_enters_cannot_be_compared(eager):
    def body(key: str, order: Order) -> None:
        effect(key, "effect")

    with pytest.raises(KeyNotHashable, match="'order'"):
        make(body, Transactional(), pydantic=True).delay("key", {"number": 7})
    assert effects("key") == 0


class CountingTask(Task):
    """A base class with a __call__ of its own, which Celery calls instead of run."""

    def __call__(self, *args, **kwargs):
        return self.run(*args, **kwargs)


@POLICIES
def test_a_task_of_a_class_with_a_call_of_its_own_is_called_once(policy, eager):
    def body(key):
        effect(key, "effect")
        return "value"

    called = make(body, policy, base=CountingTask)
    assert [called.delay("key").get() for _ in range(2)] == ["value"] * 2
    assert effects("key") == 1


@POLICIES
def test_eager_duplicates_are_answered(job, eager):
    for _ in range(2):
        chain = job.s("key", "value") | next_step.s("key")
        assert chain.apply_async().get() == "value"
    assert (effects("key"), effects("key", "next step")) == (1, 1)


@POLICIES
def test_a_direct_call_is_answered(job):
    assert [job("key", "value"), job("key", "value")] == ["value"] * 2
    assert Effect.objects.count() == 1


@pytest.fixture
def atomic_requests(monkeypatch, settings):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    with override_settings(ROOT_URLCONF=__name__):
        yield


@POLICIES
def test_an_eager_task_inside_of_an_atomic_request_is_refused(job, client, eager, atomic_requests):
    with pytest.raises(InsideTransaction, match="non_atomic_requests"):
        client.get("/atomic", {"task": job.name})
    assert (Effect.objects.count(), IdempotencyRecord.objects.count()) == (0, 0)


@POLICIES
def test_an_eager_task_in_a_request_that_is_not_atomic_runs_once(
    job, client, eager, atomic_requests
):
    for _ in range(2):
        assert client.get("/plain", {"task": job.name}).json() == {"result": "value"}
    assert Effect.objects.count() == 1
