"""How each of the others is called, as its own documentation says: with a key that is new, and with
one whose job has been done (or, for a lock, that is held)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db import connection, models, transaction

from tests.benchmarks.subjects import RESULT, bare, one_statement

Call = Callable[[int], Any]


def body(order: int) -> dict[str, Any]:
    """The job, for those that do not take part in its transaction."""
    bare(order)
    return RESULT


def _table(model: type[models.Model]) -> None:
    with connection.schema_editor() as editor:
        editor.create_model(model)


def naive() -> tuple[Call, Call]:
    """What is written by hand, in many projects."""

    class Done(models.Model):  # noqa: DJ008 nobody reads it
        key = models.CharField(max_length=64, unique=True)
        result = models.JSONField(null=True)

        class Meta:
            app_label = "jobs"

    _table(Done)

    def run(order: int) -> Any:
        with transaction.atomic():
            done, is_new = Done.objects.get_or_create(key=f"order {order}")
            if is_new:
                done.result = one_statement(order)
                done.save(update_fields=["result"])
            return done.result

    return run, run


def constraint() -> tuple[Call, Call]:
    """A unique constraint on the effect itself: no result is kept."""

    class Confirmed(models.Model):  # noqa: DJ008 nobody reads it
        key = models.TextField(unique=True)

        class Meta:
            app_label = "jobs"

    _table(Confirmed)

    def run(order: int) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            insert = "INSERT INTO jobs_confirmed (key) VALUES (%s) ON CONFLICT DO NOTHING"
            cursor.execute(insert, [f"order {order}"])

    return run, run


def justonce() -> tuple[Call, Call]:
    from justonce.core import Idempotent
    from justonce.decorators import idempotent
    from justonce.stores.django_store import DjangoStore

    engine = Idempotent(DjangoStore("default", create_table=True))
    guarded = idempotent(key=lambda order: f"confirm {order}", engine=engine)(
        lambda order: one_statement(order)
    )

    def run(order: int) -> Any:
        with transaction.atomic():
            return guarded(order)

    return run, run


def inbox() -> tuple[Call, Call]:
    from uuid import UUID

    from reliable_outbox.inbox import claim

    def run(order: int) -> Any:
        with transaction.atomic():
            if claim(UUID(int=order), consumer="orders"):
                return one_statement(order)
            return None

    return run, run


def idemkit_postgresql() -> tuple[Call, Call]:
    from idemkit import PostgresBackend
    from idemkit.backends.postgres import init_pg

    asyncio.run(init_pg(database_url()))
    return _idemkit(PostgresBackend.from_url(database_url(), min_size=1, max_size=4))


def idemkit_redis(url: str) -> tuple[Call, Call]:
    from idemkit import RedisBackend

    return _idemkit(RedisBackend.from_url(url))


def _idemkit(backend: Any) -> tuple[Call, Call]:
    from idemkit import MethodConfig, idempotent_sync

    def confirm(order_id: int) -> Any:
        return body(order_id)

    run = idempotent_sync(backend=backend, config=MethodConfig(key_fields=["order_id"]))(confirm)
    return (lambda order: run(order_id=order)), (lambda order: run(order_id=order))


def powertools(url: str) -> tuple[Call, Call]:
    import redis
    from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent_function
    from aws_lambda_powertools.utilities.idempotency.persistence.cache import CachePersistenceLayer

    store = CachePersistenceLayer(client=redis.Redis.from_url(url, decode_responses=True))
    config = IdempotencyConfig()
    config.register_lambda_context(Context())

    @idempotent_function(data_keyword_argument="order", persistence_store=store, config=config)
    def confirm(order: dict[str, int]) -> Any:
        return body(order["id"])

    return (lambda order: confirm(order={"id": order})), (
        lambda order: confirm(order={"id": order})
    )


class Context:
    """What Lambda gives: without it, Powertools has no lease and warns at each call."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 60_000


def celery_once(url: str) -> tuple[Call, Call]:
    from celery import Celery
    from celery_once import AlreadyQueued, QueueOnce

    app = Celery("once", broker="memory://")
    settings = {"url": url, "default_timeout": 3600}
    app.conf.ONCE = {"backend": "celery_once.backends.Redis", "settings": settings}

    @app.task(base=QueueOnce)
    def confirm(order: int) -> None: ...

    def run(order: int) -> None:
        key = confirm.get_key((order,), {})
        confirm.once_backend.raise_or_lock(key, timeout=3600)
        body(order)
        confirm.after_return("SUCCESS", None, "id", (order,), {}, None)

    def held(order: int) -> None:
        with suppress(AlreadyQueued):
            confirm.once_backend.raise_or_lock("held", timeout=3600)

    held(0)
    return run, held


def celery_singleton(url: str) -> tuple[Call, Call]:
    from celery import Celery
    from celery_singleton import Singleton

    app = Celery("singleton", broker="memory://")
    app.conf.singleton_backend_url = url

    @app.task(base=Singleton)
    def confirm(order: int) -> None: ...

    def run(order: int) -> None:
        lock = confirm.generate_lock(confirm.name, [order], {})
        confirm.aquire_lock(lock, "id")
        body(order)
        confirm.release_lock([order], {})

    def held(order: int) -> None:
        confirm.aquire_lock("held", "id")
        confirm.get_existing_task_id("held")

    held(0)
    return run, held


def dbos() -> tuple[Call, Call]:
    """A workflow whose only step is a transaction of its own datasource."""
    import sqlalchemy
    from dbos import DBOS, SetWorkflowID, SQLAlchemyDatasource

    url = database_url().replace("postgresql://", "postgresql+psycopg://")
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "CRITICAL"})
    logging.getLogger("dbos").setLevel(logging.CRITICAL)
    source = SQLAlchemyDatasource.create(url)
    insert = sqlalchemy.text(
        "INSERT INTO jobs_effect (key, note, pid, created_at) VALUES (:key, 'n', :pid, now())"
    )

    @source.transaction()
    def step(order: int) -> Any:
        source.sql_session().execute(insert, {"key": f"order {order}", "pid": os.getpid()})
        return RESULT

    @DBOS.workflow()
    def confirm(order: int) -> Any:
        return step(order)

    DBOS.launch()

    def run(order: int) -> Any:
        with SetWorkflowID(f"confirm {order}"):
            return confirm(order)

    return run, run


def database_url() -> str:
    at = connection.settings_dict
    return f"postgresql://{at['USER']}:{at['PASSWORD']}@{at['HOST']}:{at['PORT']}/{at['NAME']}"
