"""``@idempotent``: what it accepts, what it refuses at import, what it does to a function."""

import inspect
from datetime import timedelta

import pytest
from celery import shared_task

from idempotency import (
    ALL_ARGUMENTS,
    TASK_ID,
    Leased,
    OnDoubt,
    current_attempt,
    execute,
    idempotent,
)
from idempotency.exceptions import KeyMissing, KeyReused
from tests.execution.bodies import effect, effects

pytestmark = pytest.mark.django_db(transaction=True)


@idempotent(key="order_id")
def ship(order_id: int, note: str = "", *, tries: int = 3) -> list[object]:
    effect()
    return [order_id, note, current_attempt().number]


def test_the_function_keeps_its_name_and_signature():
    assert ship.__name__ == "ship"
    assert list(inspect.signature(ship).parameters) == ["order_id", "note", "tries"]


def test_all_forms_of_one_call_are_one_call():
    first = ship(7, "x")
    assert first == ship(order_id=7, note="x") == ship(7, note="x", tries=3)
    assert effects() == 1


def test_another_argument_under_one_key_is_refused():
    ship(8)
    with pytest.raises(KeyReused):
        ship(8, "other")


def test_without_a_key_it_does_not_run():
    with pytest.raises(KeyMissing):
        ship(None)
    assert effects() == 0


def test_a_wrong_call_is_a_type_error():
    with pytest.raises(TypeError):
        ship()


def test_a_message_key_needs_a_message():
    @idempotent(key=TASK_ID, scope="test")
    def work():
        effect()

    with pytest.raises(KeyMissing, match="delivered"):
        work()


def test_a_task_s_self_is_no_part_of_the_key():
    @shared_task(bind=True)
    @idempotent(key=ALL_ARGUMENTS, scope="bound")
    def bound(self, number):
        effect()
        return self.name

    assert bound(1) == bound(number=1)
    assert effects() == 1


def test_the_options_reach_the_record():
    from django.utils import timezone

    from tests.execution.bodies import the_record

    @idempotent(key="n", scope="named", retention=timedelta(days=1), store_result=False)
    def work(n):
        return n

    assert work(1) == 1
    assert work(1) is None
    assert the_record().scope == "named"
    assert the_record().expires_at < timezone.now() + timedelta(days=1)


HOLD = Leased(on_doubt=OnDoubt.HOLD)


def plain(order_id):
    pass


def generator(order_id):
    yield order_id


async def coroutine(order_id):
    pass


@pytest.mark.parametrize("retention", [timedelta(0), -timedelta(days=1), 30])
def test_a_retention_that_would_forget_at_once_is_refused(retention):
    with pytest.raises(ValueError, match="retention must be a positive timedelta"):
        idempotent(key="order_id", retention=retention)
    with pytest.raises(ValueError, match="retention must be a positive timedelta"):
        execute(effect, key=1, scope="test", retention=retention)
    assert effects() == 0


@pytest.mark.parametrize(
    ("decorate", "message"),
    [
        (lambda: idempotent(plain), "a path into the arguments"),
        (lambda: idempotent()(plain), "a path into the arguments"),
        (lambda: idempotent(key="order_id")(shared_task(plain)), "below @shared_task"),
        (lambda: idempotent(key="order_id")(ship), "applied twice"),
        (lambda: idempotent(key="order_id")(coroutine), "async def"),
        (lambda: idempotent(key="order_id")(generator), "Return a list"),
        (lambda: idempotent(key="order")(plain), "Did you mean 'order_id'"),
        (lambda: idempotent(key=TASK_ID, policy=HOLD)(plain), "TASK_ID does not go with Leased"),
        (lambda: idempotent(key="order_id")(lambda order_id: None), "scope"),
        (lambda: idempotent(key="order_id", policy="leased")(plain), "policy="),
    ],
)
def test_misuse_is_refused_at_import(decorate, message):
    with pytest.raises(TypeError, match=message):
        decorate()
