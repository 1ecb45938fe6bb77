"""Each check fires when the configuration is wrong, and is silent when it is right."""

import celery
import pytest
from celery import Celery
from celery.backends.base import BaseBackend
from django.core import checks

from idempotency.contrib.celery_checks import check_chords


class Counting(BaseBackend):
    """What django-celery-results does: a counter of its own."""

    def on_chord_part_return(self, request, state, result, **kwargs):
        pass


UNORDERED = {"result_chord_ordered": False}


@pytest.mark.parametrize(
    ("backend", "options", "warned"),
    [
        ("redis://127.0.0.1:1/0", {}, False),
        ("redis://127.0.0.1:1/0", UNORDERED, celery.VERSION < (5, 7)),
        ("cache+memory://", {}, True),
        (f"{__name__}.Counting", {}, True),
        ("db+sqlite://", {}, False),
        ("rpc://", {}, False),
        ("file:///tmp", {}, False),
        ("disabled://", {}, False),
        ("nowhere.Backend", {}, False),
        (None, {}, False),
    ],
)
def test_a_backend_that_counts_a_duplicated_chord_member_twice_is_named(backend, options, warned):
    app = Celery(backend=backend, set_as_current=False)
    app.conf.result_backend_transport_options = options
    found = check_chords(app)
    assert [warning.id for warning in found] == ["idempotency.W019"] * warned


def test_the_project_passes():
    assert [found for found in checks.run_checks() if (found.id or "").startswith("idemp")] == []
