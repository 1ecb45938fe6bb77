"""An operator before the admin, and the records that they see."""

import re
from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from idempotency.models import IdempotencyRecord

RECORDS = "admin:idempotency_idempotencyrecord"


class Operator:
    """Somebody who uses the admin's pages as a browser does."""

    def __init__(self, client):
        self.client = client

    def choose(self, name, *records, **more):
        """Select records in the list, and an action: the page that asks."""
        chosen = {"action": name, "_selected_action": [record.pk for record in records]} | more
        return self.client.post(reverse(f"{RECORDS}_changelist"), chosen)

    def press(self, name, record, **more):
        """Press a button on the page of a record: the page that asks."""
        address = reverse(f"{RECORDS}_settle", args=[name])
        return self.client.post(address, {"record": record.pk} | more, follow=True)

    def confirm(self, asked, *, reason="seen there", **more):
        """Fill in the page that asks, and send it: where one is led then."""
        page = asked.content.decode()
        [address] = re.findall(r'<form method="post" action="([^"]*/settle/[^"]*)"', page)
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
        fields = {name: unescape(value) for name, value in hidden.items()}
        return self.client.post(unescape(address), fields | {"reason": reason} | more, follow=True)

    def detail(self, record):
        return self.client.get(reverse(f"{RECORDS}_change", args=[record.pk])).content.decode()


def said(response):
    """The messages on a page."""
    return [str(message) for message in response.context["messages"]]


def as_user(*permissions, name="ada"):
    """An operator with these permissions and no others."""
    user = User.objects.create_user(name, is_staff=True)
    for codename in permissions:
        user.user_permissions.add(Permission.objects.get(codename=f"{codename}_idempotencyrecord"))
    client = Client(raise_request_exception=True)
    client.force_login(user)
    return Operator(client)


@pytest.fixture
def operator():
    """Somebody who may do all of it, and is no superuser."""
    return as_user("view", "resolve", "release", "allow_again", "purge")


def the_record(**which):
    return IdempotencyRecord.objects.get(**which)
