"""Who can tell what became of a message, asked after a doubt.

Both questions are a GET whose path ends in what the message is known by. The answer is JSON,
``{"found": bool, "complete_since": time or null}``. *Not found* means "it did not happen" only if
the one who says so knows all that has come since before the effect began, and has nothing of it
still at work. Whatever else is said, or not said, leaves the doubt.
"""

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlsplit

from django.conf import settings

from idempotency import Verdict
from idempotency.policies import Doubt
from notifications.answers import Unavailable
from notifications.mail import message_id
from notifications.models import Message
from notifications.webhook import open_connection, target

logger = logging.getLogger(__name__)

LONGEST_ANSWER = 10_000


def ask_mail_server(doubt: Doubt) -> Verdict:
    """Ask the mail server's log for the ``Message-ID``."""
    if not settings.MAIL_LOG_URL:
        return Verdict.unknown()
    return _ask(settings.MAIL_LOG_URL, message_id(doubt.provider_key), doubt)


def ask_receiver(doubt: Doubt) -> Verdict:
    """Ask the webhook's receiver for the key that it was given, if it can be asked."""
    arguments = doubt.arguments or {}  # nobody has them before a message of the key is parked
    message = Message.objects.filter(pk=arguments.get("message_id", 0)).first()
    if message is None or urlsplit(message.recipient).netloc.lower() not in (
        settings.WEBHOOKS_CAN_BE_ASKED
    ):
        return Verdict.unknown()
    return _ask(message.recipient, str(doubt.provider_key), doubt)


def _ask(url: str, name: str, doubt: Doubt) -> Verdict:
    parts = urlsplit(url)
    asked = parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name, safe='')}").geturl()
    try:
        answer = _get(asked)
        if answer["found"] is True:
            return Verdict.happened()
        since = answer["complete_since"]
        if answer["found"] is False and since and datetime.fromisoformat(since) <= doubt.begun_at:
            return Verdict.did_not_happen()
    except Unavailable as error:
        logger.warning("Asked in vain about key %s: %s", doubt.key_hash.hex, error)
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        # Its words may hold the URL, which may be a secret.
        logger.warning("Asked in vain about key %s: %r", doubt.key_hash.hex, type(error))
    return Verdict.unknown()


def _get(url: str) -> Mapping[str, Any]:
    with open_connection(url) as connection:
        connection.request("GET", target(url), headers={"Connection": "close"})
        response = connection.getresponse()
        if response.status != 200:
            raise Unavailable(f"It answers {response.status}.")
        found: Mapping[str, Any] = json.loads(response.read(LONGEST_ANSWER))
        return found
