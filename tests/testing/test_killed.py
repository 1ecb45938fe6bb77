"""A process of its own is killed in a user's test: what is ended, kept and told."""

import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test import override_settings

from idempotency import execute
from idempotency.attempts import owner
from idempotency.testing import (
    AFTER_COMMIT,
    AFTER_EFFECT,
    BEFORE_EFFECT,
    CannotDeliver,
    Message,
    assert_effects,
    assert_failed,
    child,
    let_time_pass,
)
from tests.harness.waiting import wait_until
from tests.jobs.models import Effect
from tests.testing import jobs

#: Longer than any lease here.
LONG = timedelta(minutes=10)


def test_a_real_death_is_one_of_another_process(transactional_db):
    message = Message(jobs.charge, 7)
    message.die(AFTER_EFFECT)
    assert message.history == ["died after the effect, killed"]
    assert message.record.owner != owner()
    assert Effect.objects.get().pid != os.getpid()


def test_a_task_that_no_other_process_can_import_is_told(transactional_db):
    def local(order_id):
        return execute(lambda: order_id, key=order_id, scope="testing.local").result

    with pytest.raises(CannotDeliver, match="top of a module"):
        Message(local, 7).die(BEFORE_EFFECT)


def test_what_the_other_process_says_of_its_failure_is_told(transactional_db, monkeypatch):
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "no.such.settings")
    with pytest.raises(CannotDeliver, match="No module named 'no"):
        Message(jobs.ship, 7).die(BEFORE_EFFECT)
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    with pytest.raises(CannotDeliver, match="it is not set here"):
        Message(jobs.ship, 7).die(BEFORE_EFFECT)


def test_a_task_that_kills_its_worker_each_time_is_exhausted(transactional_db):
    with override_settings(IDEMPOTENCY={"MAX_REDELIVERIES": 2}):
        message = Message(jobs.ship, 7)
        for _ in range(3):  # the first delivery of a message leaves no note
            message.die(AFTER_EFFECT)
            let_time_pass(LONG)
        assert message.deliver().parked
    assert_failed(message)
    assert_effects(Effect.objects, expected=0)


def test_mail_of_a_killed_process_is_in_the_outbox_of_the_test(transactional_db, mailoutbox):
    message = Message(jobs.letter, 7)
    message.die(AFTER_EFFECT)
    assert [each.subject for each in mailoutbox] == ["order 7"]
    message.deliver()
    with pytest.raises(AssertionError, match="There are 2 effects"):
        assert_effects(mailoutbox)


def test_a_killed_process_publishes_no_message(transactional_db):
    with jobs.fan_out.app.connection_for_write() as broker:
        redis = broker.default_channel.client
        redis.flushdb()
        Message(jobs.fan_out, 7).die(AFTER_EFFECT)
        assert redis.llen(jobs.fan_out.app.conf.task_default_queue) == 0


def test_what_a_killed_process_has_started_ends_with_it(transactional_db, tmp_path):
    Message(jobs.leave_behind, str(tmp_path / "pid")).die(AFTER_EFFECT)
    pid = (tmp_path / "pid").read_text()
    wait_until(lambda: not _runs(pid), "the end of what the task started")


def test_a_process_that_does_not_end_is_ended_and_told_of(transactional_db, monkeypatch):
    monkeypatch.setattr(child, "LIFETIME", 0.1)
    started = _started(monkeypatch)
    with pytest.raises(CannotDeliver, match=r"did not end within 0\.1 s"):
        Message(jobs.hang, 7).die(AFTER_EFFECT)
    assert [each.returncode for each in started] == [-9]


def test_who_interrupts_the_test_ends_the_other_process_too(transactional_db, monkeypatch):
    started = _started(monkeypatch)
    wait = subprocess.Popen.wait

    def interrupted(process, timeout=None):
        if timeout is not None:
            raise KeyboardInterrupt
        return wait(process)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Message(jobs.hang, 7).die(AFTER_EFFECT)
    assert [each.returncode for each in started] == [-9]


def test_the_other_process_has_all_settings_of_the_databases(transactional_db, monkeypatch):
    settings = connection.settings_dict
    options = settings["OPTIONS"] | {"application_name": "of this test"}
    monkeypatch.setitem(settings, "OPTIONS", options)
    Message(jobs.tell, 7).die(AFTER_COMMIT)
    assert Effect.objects.get().note == "of this test"
    monkeypatch.setitem(settings, "OPTIONS", options | {"local": lambda: None})
    with pytest.raises(CannotDeliver, match="DATABASES cannot be given to another process"):
        Message(jobs.tell, 8).die(AFTER_COMMIT)


def _runs(pid):
    """Not even as a zombie that waits for its new parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _started(monkeypatch):
    """The processes that are started from now on."""
    started, start = [], subprocess.Popen.__init__

    def noted(process, *args, **kwargs):
        started.append(process)
        start(process, *args, **kwargs)

    monkeypatch.setattr(subprocess.Popen, "__init__", noted)
    return started
