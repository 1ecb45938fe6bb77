"""One browser, one worker and one night for the whole walk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.test import override_settings
from pytest_django.live_server_helper import LiveServer

from notifications.demo.mailserver import MailServer

if TYPE_CHECKING:
    from tests.walk.stage import Stage


@pytest.fixture(scope="module")
def transactional_db(django_db_setup, django_db_blocker) -> Iterator[None]:
    """For the whole walk: pytest-django's own is emptied after each test."""
    with django_db_blocker.unblock():
        yield
        call_command("flush", verbosity=0, interactive=False)


@pytest.fixture(scope="module")
def stage(transactional_db, tmp_path_factory) -> Iterator[Stage]:
    from tests.harness.browsers import chromium  # not without Playwright
    from tests.walk.stage import Stage, new_queue, worker_of

    log = tmp_path_factory.mktemp("walk") / "worker.log"
    with ExitStack() as stack:
        # Playwright's loop runs in this thread, where Django would refuse to work. Nothing here is
        # asynchronous. (docs.djangoproject.com/en/5.2/topics/async, "Async safety")
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        middleware = [*settings.MIDDLEWARE, "tests.walk.stage.strict"]
        stack.enter_context(override_settings(MIDDLEWARE=middleware))
        site = LiveServer("127.0.0.1")
        stack.callback(site.stop)
        queue, mail = new_queue(), MailServer()
        worker = stack.enter_context(worker_of(queue, mail, log))
        browser = stack.enter_context(chromium())
        stack.callback(connections.close_all)  # beside a loop, a thread has others than without
        try:
            yield Stage(browser, site, mail, worker, queue)
        except AssertionError:
            print(log.read_text()[-8000:])
            raise


@pytest.fixture
def ada(stage):
    """An operator at three in the morning. Whatever they do, no script or style is refused."""
    stage.ada.errors.clear()
    stage.ada.at_the_desk()
    yield stage.ada
    assert stage.ada.errors == []
