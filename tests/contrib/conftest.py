"""Deliver one message through Celery's own tracer, and see what lies in the queue then."""

import json
from base64 import b64decode

import pytest
from celery.app.trace import build_tracer

from project.celery import app
from tests.contrib.deliveries import asked, body
from tests.execution.bodies import effect


@pytest.fixture
def deliver(queue):
    """Deliver a message: what became of it, as (state, value)."""

    def deliver(task, *args, do=effect, task_id="the-task", **request):
        body["do"] = do
        request = {
            "delivery_info": {"exchange": "", "routing_key": queue.name, "redelivered": False},
            "headers": {},
            "hostname": "test",
            "id": task_id,
            "is_eager": False,
            "retries": 0,
        } | request
        traced = build_tracer(task.name, task, app=app)(task_id, args, {}, request)
        return (traced.info.state, traced.info.retval) if traced.info else ("SUCCESS", traced[0])

    asked.clear()
    yield deliver
    with app.connection_for_write() as connection:
        connection.default_channel.client.delete(queue.name)


@pytest.fixture
def messages(sent):
    """Take what lies in the queue: a list of (headers, args)."""
    return lambda: [(headers, args) for headers, (args, _, _) in sent()]


@pytest.fixture
def sent(queue):
    """Take what lies in the queue: a list of (headers, [args, kwargs, embed])."""

    def take():
        with app.connection_for_read() as connection:
            client = connection.default_channel.client
            raw = [json.loads(message) for message in client.lrange(queue.name, 0, -1)]
            client.delete(queue.name)
        return [(m["headers"], json.loads(b64decode(m["body"]))) for m in reversed(raw)]

    return take
