"""Celery tasks whose rows are on the shard that their first argument names."""

import os
from typing import Any

from celery import Task, shared_task

from idempotency import TASK_ID, Leased, OnDoubt, idempotent
from tests.harness.gates import reach
from tests.jobs.models import Effect


def shard_of(shard: str, *rest: str) -> str:
    return shard


def effect(shard: str, key: str) -> str:
    Effect.objects.using(shard).create(key=key, note="effect", pid=os.getpid())
    return f"{key} on {shard}"


@shared_task
@idempotent(key="key", using=shard_of)
def ship(shard: str, key: str) -> str:
    done = effect(shard, key)
    reach("effect")
    return done


@shared_task(bind=True)
@idempotent(key=TASK_ID, using=shard_of)
def count(self: Task[Any, Any], shard: str, key: str) -> str:
    return effect(shard, key)


@shared_task
@idempotent(key="key", using=shard_of, policy=Leased(on_doubt=OnDoubt.HOLD))
def charge(shard: str, key: str) -> str:
    """It makes a doubt."""
    raise TimeoutError(effect(shard, key))


@shared_task
@idempotent(key="key", using=shard_of)
def transfer(shard: str, key: str, to: str) -> str:
    """From one shard to another: the other half is a job of its own."""
    effect(shard, key)
    ship(to, key)
    reach("transfer")
    return key
