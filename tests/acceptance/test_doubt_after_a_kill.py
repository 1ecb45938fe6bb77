"""A worker is killed around its outside effect: what RETRY and asking make of it."""

import pytest

from idempotency.models import IdempotencyRecord
from idempotency.states import State
from tests.jobs.tasks import asked, retried

pytestmark = pytest.mark.django_db(transaction=True)


def kill_at(place, task, worker, queue, gates):
    """Send a message, kill the worker when its body comes to the gate, start another."""
    gates.close(place)
    holder = worker(lease=2)
    result = queue.send(task.s("key"))
    gates.wait_for_arrivals(place)
    holder.kill()
    gates.open(place)
    worker(lease=2)
    return result


def sent(gates):
    return (gates.directory / "outbox").read_text().splitlines()


@pytest.mark.parametrize(("place", "times"), [("body", 1), ("effect", 2)])
def test_a_retried_effect_is_repeated_with_the_same_provider_key(
    place, times, worker, queue, gates
):
    result = kill_at(place, retried, worker, queue, gates)
    assert result.get(timeout=40) == "key"
    queue.wait_empty()
    record = IdempotencyRecord.objects.get()
    assert (record.state, record.attempt) == (State.SUCCEEDED, 2)
    assert sent(gates) == [str(record.provider_key)] * times


@pytest.mark.parametrize(("place", "answer"), [("body", "key"), ("effect", "asked")])
def test_an_effect_that_can_be_asked_about_happens_once(place, answer, worker, queue, gates):
    result = kill_at(place, asked, worker, queue, gates)
    assert result.get(timeout=40) == answer
    queue.wait_empty()
    assert len(sent(gates)) == 1


def test_a_worker_killed_while_it_asks_leaves_the_question_to_the_next(worker, queue, gates):
    gates.close("effect")
    gates.close("ask")
    first = worker(lease=2)
    result = queue.send(asked.s("key"))
    gates.wait_for_arrivals("effect")
    first.kill()
    second = worker(lease=2)
    gates.wait_for_arrivals("ask", seconds=40)
    second.kill()
    gates.open("ask")
    gates.open("effect")
    worker(lease=2)
    assert result.get(timeout=40) == "asked"
    queue.wait_empty()
    assert len(sent(gates)) == 1
