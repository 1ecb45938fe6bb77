"""An operator's word, and what a real worker makes of the message that waited for it."""

import pytest

from idempotency.models import ParkedMessage
from project.celery import app
from tests.admin.conftest import said, the_record
from tests.harness.waiting import wait_until
from tests.jobs.tasks import leased

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_message_that_waited_for_a_killed_worker_s_doubt_is_answered(
    operator, worker, queue, gates
):
    gates.close("effect")
    first = worker(lease=2)
    result = queue.send(leased.s("key"))
    gates.wait_for_arrivals("effect")
    first.kill()
    gates.open("effect")
    worker(lease=2)
    wait_until(ParkedMessage.objects.exists, "the message to be parked", seconds=60)
    done = operator.confirm(operator.press("it_happened", the_record()), result='"sent"')
    assert said(done) == ["It happened: 1 record.", "1 parked message published."]
    # Not result.get(): until the message is answered, its result is the failure of the doubt.
    wait_until(lambda: app.backend.get_state(result.id) == "SUCCESS", "an answer", seconds=60)
    assert app.backend.get_result(result.id) == "sent"
    queue.wait_empty()
    assert (gates.directory / "outbox").read_text().splitlines() == ["key"]
