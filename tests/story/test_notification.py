"""The notification that must not go out twice: an effect that no transaction can take back."""

import pytest

from idempotency import Verdict
from idempotency.exceptions import InDoubt
from idempotency.models import IdempotencyRecord
from idempotency.resolution import resolve
from idempotency.states import State
from tests.story.tasks import notify

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def mail_worker(worker, mail_server):
    """A worker that sends by the mail server of this test."""

    def start(**options):
        return worker(EMAIL_HOST=mail_server.host, EMAIL_PORT=mail_server.port, **options)

    return start


def test_published_three_times_it_goes_out_once(event, mail_worker, mail_server, queue):
    mail_worker(concurrency=2)
    results = [queue.send(notify.s(event)) for _ in range(3)]
    for result in results:
        result.get(timeout=40)
    [mail] = mail_server.inbox
    assert mail["To"] == "anna@example.com"
    assert mail["Message-ID"] == f"<{IdempotencyRecord.objects.get().provider_key}@story.example>"


def test_killed_while_it_sends_it_is_not_sent_again_but_in_doubt(
    event, mail_worker, mail_server, queue, gates
):
    gates.close("sent")
    holder = mail_worker(lease=2)
    result = queue.send(notify.s(event))
    gates.wait_for_arrivals("sent", seconds=40)
    holder.kill()
    gates.open("sent")
    mail_worker(lease=2)
    with pytest.raises(InDoubt):
        result.get(timeout=40)
    queue.wait_empty()
    assert len(mail_server.inbox) == 1
    doubt = IdempotencyRecord.objects.get()
    assert doubt.state == State.IN_DOUBT
    assert str(doubt.provider_key) in mail_server.inbox[0]["Message-ID"]
    resolve(doubt.key_hash, Verdict.happened(), reason="It is in the inbox.")
    queue.wait_empty()
    assert len(mail_server.inbox) == 1
    assert IdempotencyRecord.objects.get().state == State.SUCCEEDED
