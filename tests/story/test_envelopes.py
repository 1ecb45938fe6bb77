"""Events that come as HTTP requests: a view hands each to a task, and answers.

SNS and EventBridge deliver at least once. They post again when the answer is an error or is late,
although the view may have published its task by then.
"""

import json

import boto3
import pytest
from django.conf import settings
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import reverse

from project.celery import app
from tests.story import views
from tests.story.tasks import complete_by_message, complete_execution, complete_from_bus

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.story.views"),
    pytest.mark.xdist_group("moto"),
]


@pytest.fixture(autouse=True)
def own_queue(monkeypatch, queue):
    """Where ``.delay()`` of this process publishes."""
    monkeypatch.setitem(app.conf, "task_default_queue", queue.name)


@pytest.fixture
def handled(worker, queue, gates):
    """Let a worker handle all that is published; the number of messages of a task."""
    worker()

    def handled(task, number):
        gates.wait_for_arrivals(f"end-{task.__name__}", number, seconds=40)
        queue.wait_empty()
        return len(gates.arrivals(f"end-{task.__name__}"))

    return handled


def late(get_response):
    """What stands between SNS and the view has waited too long: the view has run all the same."""

    def answer(request):
        get_response(request)
        return HttpResponse(status=504)

    return answer


def notification(event, message_id="6b1c"):
    return {
        "Type": "Notification",
        "MessageId": message_id,
        "TopicArn": "arn:aws:sns:eu-west-1:123456789012:executions",
        "Message": json.dumps(event),
        "Timestamp": "2026-01-01T00:00:00.000Z",
    }


def post(view, envelope, **settings):
    """The status that a sender sees. SNS sends its JSON as text."""
    with override_settings(**settings):
        body = json.dumps(envelope)
        return Client().post(reverse(view), body, content_type="text/plain").status_code


LATE = [f"{__name__}.late", *settings.MIDDLEWARE]


def test_a_notification_that_sns_posts_again_has_one_effect(execution, event, handled):
    assert post(views.sns, notification(event), MIDDLEWARE=LATE) == 504
    assert post(views.sns, notification(event)) == 200
    assert handled(complete_execution, 2) == 2
    assert execution.history.count() == 1


def test_an_event_that_is_published_twice_has_one_effect_by_its_own_id(execution, event, handled):
    post(views.sns, notification(event, "message-1"))
    post(views.sns, notification(event, "message-2"))
    assert handled(complete_execution, 2) == 2
    assert execution.history.count() == 1


def test_by_the_id_of_the_message_what_is_published_twice_has_two_effects(
    execution, event, handled
):
    post(views.sns_by_message, notification(event, "message-1"), MIDDLEWARE=LATE)
    post(views.sns_by_message, notification(event, "message-1"))
    post(views.sns_by_message, notification(event, "message-2"))
    assert handled(complete_by_message, 3) == 3
    assert execution.history.count() == 2


def test_a_request_to_confirm_a_subscription_is_no_event_and_nothing_is_visited(caplog, queue):
    request = {
        "Type": "SubscriptionConfirmation",
        "MessageId": "165545c9",
        "Token": "2336",
        "TopicArn": "arn:aws:sns:eu-west-1:123456789012:executions",
        "Message": "You have chosen to subscribe.",
        "SubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription",
    }
    assert post(views.sns, request) == 200
    assert request["SubscribeURL"] in caplog.text
    assert queue.length() == 0


def test_an_eventbridge_event_that_is_posted_again_has_one_effect(execution, event, handled):
    envelope = {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "ExecutionCompleted",
        "source": "com.example.executions",
        "account": "123456789012",
        "time": "2026-01-01T00:00:00Z",
        "region": "eu-west-1",
        "resources": [],
        "detail": event,
    }
    assert post(views.eventbridge, envelope, MIDDLEWARE=LATE) == 504
    assert post(views.eventbridge, envelope) == 200
    assert post(views.eventbridge, envelope | {"id": "published-again"}) == 200
    assert handled(complete_from_bus, 3) == 3
    assert execution.history.count() == 1


def test_an_event_published_to_sns_twice_comes_by_http_and_has_one_effect(
    moto, live_server, execution, event, handled
):
    sns = boto3.client(
        "sns",
        endpoint_url=moto.url.replace("sqs://key:secret@", "http://"),
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    topic = sns.create_topic(Name="executions")["TopicArn"]
    endpoint = live_server.url + reverse(views.sns)
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=endpoint)
    ids = [sns.publish(TopicArn=topic, Message=json.dumps(event))["MessageId"] for _ in range(2)]
    assert ids[0] != ids[1]
    assert handled(complete_execution, 2) == 2
    assert execution.history.count() == 1
