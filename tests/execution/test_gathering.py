"""The events of duplicates and deferrals: written a moment later, with others, by a thread."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from idempotency import events, execute
from idempotency.models import IdempotencyEvent
from tests.execution.bodies import effect, kinds
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

BACKENDS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND backend_type = 'client backend'
"""


def once(body=effect, *, key="key"):
    return execute(body, key=key, scope="scope")


def threads():
    return [each for each in threading.enumerate() if each.name == "idempotency-events"]


def backends():
    with connection.cursor() as cursor:
        cursor.execute(BACKENDS)
        [(number,)] = cursor.fetchall()
    return number


@pytest.fixture
def late(gathering, monkeypatch):
    """Only the end of the process has them written."""
    monkeypatch.setattr(events, "GATHER_FOR", 3600)


def test_duplicates_are_written_a_moment_later_and_nothing_is_left_open(gathering):
    for _ in range(3):
        once()
    wait_until(lambda: kinds() == ["duplicate"] * 2, "the duplicates to be written")
    wait_until(lambda: not threads(), "the thread to end")
    wait_until(lambda: backends() == 1, "its connection to be closed")
    once()
    wait_until(lambda: kinds() == ["duplicate"] * 3, "what came later to be written too")


def test_no_duplicate_waits_for_its_event_and_what_failed_is_written_at_once(late):
    for _ in range(2):
        once()
    with pytest.raises(ZeroDivisionError):
        once(lambda: 1 / 0, key="other")
    assert kinds() == ["failed"]
    events.write_at_end()
    assert kinds() == ["failed", "duplicate"]


def test_an_event_has_the_time_at_which_it_happened(late):
    for _ in range(2):
        once()
    [event] = events._gathered._log
    events._gathered._log = [replace(event, since=event.since - 600)]
    events.write_at_end()
    ago = timezone.now() - IdempotencyEvent.objects.get().at
    assert timedelta(minutes=10) <= ago < timedelta(minutes=20)


def test_a_storm_on_one_key_is_gathered_and_written_in_part(late):
    once(key="other")
    once(key="other")
    for _ in range(2):
        for _ in range(events.PER_MINUTE + 3):
            once()
        events.write_at_end()
    assert kinds() == ["duplicate"] * (1 + events.PER_MINUTE)


def test_a_server_that_takes_none_does_not_fill_the_memory_and_what_is_dropped_is_counted(
    late, monkeypatch, caplog
):
    monkeypatch.setattr(events, "GATHER_MOST", 2)
    for key in "abcde":
        once(key=key)
        once(key=key)
    events.write_at_end()
    assert kinds() == ["duplicate"] * 2
    [said] = caplog.messages
    assert said.startswith("3 duplicates and deferrals were dropped, for 2 waited to be written")
    once(key="a")
    events.write_at_end()
    assert kinds() == ["duplicate"] * 3
    assert caplog.messages == [said]


def test_events_that_cannot_be_written_are_said_and_keep_no_later_one_back(gathering, caplog):
    once()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE idempotency_event RENAME TO away")
    try:
        assert once().replayed is True
        wait_until(lambda: caplog.messages, "the failure to be said")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE away RENAME TO idempotency_event")
    assert caplog.messages[0].startswith("Events could not be written: {'duplicate': 1}")
    once()
    wait_until(lambda: kinds() == ["duplicate"], "the next one to be written")


def test_without_a_thread_a_duplicate_is_answered_and_its_event_waits(
    gathering, monkeypatch, caplog
):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    once()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert once().replayed is True
    assert "no thread starts" in caplog.text
    once()
    wait_until(lambda: kinds() == ["duplicate"] * 2, "both to be written")


@pytest.mark.django_db(transaction=False)
def test_inside_django_s_test_case_they_are_written_at_once(gathering):
    for _ in range(2):
        once()
    assert kinds() == ["duplicate"]
    assert not threads()


def test_in_a_test_without_one_too():
    for _ in range(2):
        once()
    assert kinds() == ["duplicate"]
    assert not threads()


def test_a_process_writes_its_own_before_it_ends_and_so_does_a_fork(call):
    process = call("tests.jobs.calls:run_twice_and_in_a_fork", key="key")
    assert process.answer(seconds=60) is None
    assert kinds() == ["duplicate"] * 2
    assert IdempotencyEvent.objects.values("worker").distinct().count() == 2
