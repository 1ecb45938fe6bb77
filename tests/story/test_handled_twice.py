"""The story, from the beginning: an event comes twice, and its handler has one effect.

Told before, for AWS Lambda and DynamoDB, by the idempotency utility of Powertools. What DynamoDB
lacks comes in the middle: the record and the effect are one transaction.
"""

import pytest

from idempotency.exceptions import KeyReused
from idempotency.models import IdempotencyRecord
from idempotency.states import State
from tests.harness.workers import stored_result
from tests.story.models import Change, Execution
from tests.story.tasks import complete, complete_execution, complete_same_execution

pytestmark = pytest.mark.django_db(transaction=True)

TABLES = ["idempotency_record", "story_execution", "story_change"]


def completed(execution):
    """How often its history says so."""
    execution.refresh_from_db()
    return execution.history.filter(status="completed").count()


def test_an_event_handled_twice_completes_its_execution_once(execution, event):
    complete_execution(event)
    complete_execution(event)
    assert execution.history.get().status == "completed"


def test_the_second_time_gets_the_same_answer(event):
    assert complete_execution(event) == complete_execution(event=event)


def test_there_is_one_record_and_the_second_time_changes_no_byte_of_it(event, rows):
    complete_execution(event)
    before = [rows(table) for table in TABLES]
    assert [len(table) for table in before] == [1, 1, 1]
    complete_execution(event)
    assert [rows(table) for table in TABLES] == before


def test_another_event_is_handled_too(execution, event):
    complete_execution(event)
    complete_execution(event | {"id": "evt-2"})
    assert completed(execution) == 2
    assert IdempotencyRecord.objects.count() == 2


def test_the_same_id_is_the_same_event_whatever_else_it_says(execution, event):
    """``key="event.id"`` enters the argument ``event``, so that nothing inside it is compared."""
    answer = complete_execution(event)
    other = Execution.objects.create()
    assert complete_execution(event | {"execution": other.pk}) == answer
    assert (completed(execution), completed(other)) == (1, 0)


def test_what_is_declared_to_belong_to_the_id_is_compared(event):
    complete_same_execution(event)
    complete_same_execution(event | {"sent_at": "a minute later"})
    other = Execution.objects.create()
    with pytest.raises(KeyReused):
        complete_same_execution(event | {"execution": other.pk})
    assert completed(other) == 0


def test_delivered_twice_by_celery_it_is_the_same(event, rows, worker, queue):
    worker()
    first = queue.send(complete_execution.s(event))
    first.get(timeout=40)
    queue.wait_empty()
    before = [rows(table) for table in TABLES]
    second = queue.send(complete_execution.s(event))
    second.get(timeout=20)
    assert first.id != second.id
    assert stored_result(first) == stored_result(second) != b""
    assert [rows(table) for table in TABLES] == before


# What DynamoDB lacks: a record that commits with the effect, or not at all.


def test_by_itself_a_handler_that_fails_in_the_middle_leaves_a_half():
    early = {"id": "evt-1", "execution": 7}
    with pytest.raises(Execution.DoesNotExist):
        complete(early)
    assert Change.objects.count() == 1


def test_a_handler_that_fails_in_the_middle_leaves_nothing_and_may_be_called_again(execution):
    early = {"id": "evt-1", "execution": execution.pk + 1}
    with pytest.raises(Execution.DoesNotExist):
        complete_execution(early)
    assert Change.objects.count() == 0
    assert IdempotencyRecord.objects.get().state == State.FAILED
    late = Execution.objects.create(pk=execution.pk + 1)
    assert complete_execution(early)["execution"] == late.pk
    assert completed(late) == 1


@pytest.mark.parametrize("place", ["written", "end-complete_execution"])
def test_killed_after_its_effect_it_is_delivered_again_and_has_one(
    place, execution, event, worker, queue, gates
):
    """Between the effect and the record, and between the record and the acknowledgement."""
    gates.close(place)
    holder = worker()
    result = queue.send(complete_execution.s(event))
    gates.wait_for_arrivals(place, seconds=40)
    holder.kill()
    assert completed(execution) == (place != "written")
    gates.open(place)
    worker()
    assert result.get(timeout=40)["execution"] == execution.pk
    queue.wait_empty()
    assert completed(execution) == 1
    assert len(gates.arrivals("delivery-complete_execution")) == 2
