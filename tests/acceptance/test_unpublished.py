"""A next step or a deferral that the broker does not take: whether its message comes again."""

from dataclasses import replace

import pytest
from celery.result import AsyncResult
from kombu import Connection
from redis import Redis

from project.celery import app
from project.valkey import Valkey
from tests.harness.brokers import on_valkey, rabbitmq, started
from tests.harness.waiting import wait_until
from tests.jobs.models import effects
from tests.jobs.tasks import echo, next_step, transactional

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def publish(call, queue):
    """Publish to a broker from a process of its own; the results."""

    def publish(broker, *signatures, **more):
        environment = broker.environment | {"TEST_QUEUE": queue.name} | more
        sent = call("tests.jobs.calls:publish", environment, signatures=signatures).answer()
        return [AsyncResult(each, app=app) for each in sent]

    return publish


@pytest.fixture(scope="session")
def rabbit():
    with rabbitmq(quorum=False) as broker:
        yield broker


@pytest.fixture
def valkey(transactional_db):
    with started(Valkey) as server:
        yield server


def test_a_next_step_that_finds_no_broker_is_published_by_the_message_that_comes_again(
    valkey, worker, publish, gates
):
    """The acknowledgement is lost with the connection."""
    gates.close("publish-next_step")
    gates.close("end-transactional")
    broker = on_valkey(valkey.url)
    worker(**broker.environment, TEST_NO_PUBLISH_RETRY=1)
    publish(broker, transactional.s("key", "value") | next_step.s("key"))
    gates.wait_for_arrivals("publish-next_step", seconds=40)
    valkey.kill()
    gates.open("publish-next_step")
    gates.wait_for_arrivals("end-transactional", seconds=40)  # given up
    gates.open("end-transactional")
    valkey.start()
    wait_until(lambda: effects("key", "next step"), "the next step", seconds=40)
    assert (effects("key"), effects("key", "next step")) == (1, 1)
    assert len(gates.arrivals("delivery-transactional")) == 2


def test_a_next_step_that_is_refused_is_lost_for_its_message_is_acknowledged(
    valkey, worker, publish, queue, gates
):
    """A server that is full takes no message, and any acknowledgement."""
    gates.close("publish-next_step")
    broker = on_valkey(valkey.url)
    running = worker(**broker.environment)
    publish(broker, transactional.s("key", "value").set(task_id=queue.name) | next_step.s("key"))
    gates.wait_for_arrivals("publish-next_step", seconds=40)
    with Redis.from_url(valkey.url) as client:
        client.config_set("maxmemory", 1)
        gates.open("publish-next_step")
        gates.wait_for_arrivals("end-transactional", seconds=40)
        wait_until(lambda: client.hlen("unacked") == 0, "the acknowledgement")
        client.config_set("maxmemory", 0)
        running.stop()  # what it still holds goes back
        assert client.llen(queue.name) == 0
    assert AsyncResult(queue.name, app=app).state == "FAILURE"
    assert (effects("key"), effects("key", "next step")) == (1, 0)


@pytest.mark.xdist_group("rabbitmq")
@pytest.mark.parametrize("confirms", [True, False])
def test_a_deferral_that_is_refused_is_lost_unless_rabbitmq_confirms(
    confirms, rabbit, worker, publish, queue, gates
):
    """A queue that is full refuses the copy. Who hears of it gives the message back."""
    broker = replace(rabbit, options={"confirm_publish": confirms})
    full = {"TEST_QUEUE_LENGTH": "1"}
    job = transactional.s("key", "value")
    gates.close("effect")
    running = worker(concurrency=2, **broker.environment, **full)
    running.wait_ready()
    publish(broker, job, **full)
    gates.wait_for_arrivals("effect", seconds=40)
    gates.close("publish-transactional", after=2)
    [duplicate] = publish(broker, job, **full)
    gates.wait_for_arrivals("publish-transactional", 3)  # the copy
    [other] = publish(broker, echo.s("in the way"), **full)
    gates.open("publish-transactional")
    if confirms:
        gates.wait_for_arrivals("delivery-transactional", 3)
        gates.open("effect")
        assert duplicate.get(timeout=40) == "value"
        return
    wait_until(lambda: duplicate.state == "RETRY", "the deferral")
    gates.open("effect")
    assert other.get(timeout=40) == "in the way"
    running.stop()  # what it still holds goes back
    with Connection(broker.url) as connection:
        left = connection.default_channel.queue_declare(queue.name, passive=True)
    assert (left.message_count, duplicate.state) == (0, "RETRY")
