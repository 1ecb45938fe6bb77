"""Tasks whose body is chosen for each delivery."""

import functools
from datetime import timedelta

from celery import shared_task

from idempotency import TASK_ID, Leased, OnDoubt, Verdict, idempotent
from tests.execution.bodies import effect

HOLD = Leased(on_doubt=OnDoubt.HOLD, lease=timedelta(minutes=1), no_effect_errors=(KeyError,))

#: What the body of the next delivery does.
body = {"do": effect}
asked = []


@shared_task(name="transactional")
@idempotent(key="key", scope="transactional")
def transactional(key):
    return body["do"]()


def timed(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@shared_task(name="decorated")
@timed
@idempotent(key="key", scope="decorated")
@timed
def decorated(key):
    return body["do"]()


@shared_task(name="nesting", bind=True)
@idempotent(key="key", scope="nesting", policy=Leased(on_doubt=OnDoubt.HOLD, marks_effect=True))
def nesting(self, key):
    return held.run(key)


@shared_task(name="retrying", bind=True, autoretry_for=(Exception,), retry_backoff=False)
@idempotent(key="key", scope="retrying")
def retrying(self, key):
    return body["do"](self)


@shared_task(name="held", bind=True)
@idempotent(key="key", scope="held", policy=HOLD)
def held(self, key):
    return body["do"](self)


@shared_task(name="repeated", bind=True)
@idempotent(
    key="key", scope="repeated", policy=Leased(on_doubt=OnDoubt.RETRY, provider_window=None)
)
def repeated(self, key):
    return body["do"](self)


@shared_task(name="brief", bind=True)
@idempotent(
    key="key",
    scope="brief",
    policy=Leased(on_doubt=OnDoubt.HOLD, lease=timedelta(seconds=1)),
)
def brief(self, key):
    return body["do"](self)


@shared_task(name="packing", bind=True, autoretry_for=(KeyError,), retry_backoff=False)
@idempotent(key="order", scope="packing")
def packing(self, order):
    return body["do"](self, order)


@shared_task(name="packing_held", bind=True)
@idempotent(key="order", scope="packing_held", policy=Leased(on_doubt=OnDoubt.HOLD))
def packing_held(self, order):
    return body["do"](self, order)


def ask(doubt):
    asked.append(doubt)
    return Verdict.happened("asked")


@shared_task(name="asking", bind=True)
@idempotent(key="key", scope="asking", policy=Leased(on_doubt=ask))
def asking(self, key):
    return body["do"](self)


@shared_task(name="by_message")
@idempotent(key=TASK_ID, scope="by_message")
def by_message():
    return body["do"]()


@shared_task(name="silent")
@idempotent(key="key", scope="silent", store_result=False)
def silent(key):
    return effect()


@shared_task(name="pay")
@idempotent(key="key", scope="pay")
def pay(key, amount):
    return amount


@shared_task(name="sharded", bind=True, autoretry_for=(Exception,), retry_backoff=False)
@idempotent(key="key", scope="sharded", using=lambda key, shard: shard)
def sharded(self, key, shard):
    return effect()


@shared_task(name="hasty", bind=True, autoretry_for=(Exception,), retry_backoff=False)
@idempotent(key="key", scope="hasty", policy=HOLD)
def hasty(self, key):
    return body["do"](self)
