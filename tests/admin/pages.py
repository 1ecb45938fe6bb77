"""The pages of the admin, as a client gets them."""

from django.urls import reverse


def page(client, name, *args, **query):
    """The text of a page; it is there, and the browser is given no script or style in it."""
    response = client.get(reverse(f"admin:idempotency_{name}", args=args), query)
    assert response.status_code == 200, response
    return response.content.decode()


def listed(client, **query):
    """The ids of the records that a list shows."""
    response = client.get(reverse("admin:idempotency_idempotencyrecord_changelist"), query)
    assert response.status_code == 200, response
    return {row.pk for row in response.context_data["cl"].result_list}


def shown(client, record):
    """The page of a record."""
    return page(client, "idempotencyrecord_change", record.pk)
