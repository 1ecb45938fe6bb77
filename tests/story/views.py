"""Where SNS and EventBridge deliver by HTTP. A real view verifies first who is calling."""

import json
import logging

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from tests.story.tasks import complete_by_message, complete_execution, complete_from_bus

logger = logging.getLogger(__name__)


@csrf_exempt
@require_POST
def sns(request: HttpRequest) -> HttpResponse:
    """One effect for each id that the publisher gave, however often it was published."""
    envelope = json.loads(request.body)
    if envelope["Type"] == "Notification":
        complete_execution.delay(json.loads(envelope["Message"]))
    else:
        # Whoever can reach this view can send it: somebody looks before it is visited.
        logger.warning("To confirm the subscription, visit %s", envelope["SubscribeURL"])
    return HttpResponse(status=200)


@csrf_exempt
@require_POST
def sns_by_message(request: HttpRequest) -> HttpResponse:
    """One effect for each message of SNS."""
    envelope = json.loads(request.body)
    complete_by_message.delay(envelope["MessageId"], json.loads(envelope["Message"]))
    return HttpResponse(status=200)


@csrf_exempt
@require_POST
def eventbridge(request: HttpRequest) -> HttpResponse:
    complete_from_bus.delay(json.loads(request.body))
    return HttpResponse(status=200)


urlpatterns = [
    path("sns", sns),
    path("sns-by-message", sns_by_message),
    path("eventbridge", eventbridge),
]
