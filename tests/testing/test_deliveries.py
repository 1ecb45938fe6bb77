"""A user's task is delivered twice, or at the same time, and the test is told of each."""

import threading

import pytest
from celery.exceptions import Ignore, Reject, Retry
from django.db import transaction
from django.test import TestCase, TransactionTestCase

from idempotency import execute
from idempotency.exceptions import AlreadyRunning, KeyMissing, KeyReused
from idempotency.models import IdempotencyEvent, IdempotencyRecord
from idempotency.testing import (
    CannotDeliver,
    Message,
    assert_effects,
    assert_failed,
    assert_succeeded,
    deliver_concurrently,
    deliver_twice,
    overlap,
)
from idempotency.testing.overlap import Delivering, Overlap
from tests.harness.waiting import wait_until
from tests.jobs.models import Effect
from tests.testing import jobs

commits = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("task", [jobs.ship, jobs.charge, jobs.mail, jobs.plain, jobs.view])
def test_the_second_delivery_of_a_message_is_answered_by_the_first(task, either):
    first, second = deliver_twice(task, order_id=7)
    assert second.replayed
    assert not first.replayed
    assert second.result == first.result
    assert_effects(Effect.objects.filter(note="effect"))
    assert_succeeded(first.message)


def test_two_messages_with_one_key_have_one_effect(either):
    first, second = Message(jobs.ship, 7), Message(jobs.ship, order_id=7)
    assert first.id != second.id
    assert first.deliver().result == second.deliver().result == [7, "shipped"]
    assert_effects(Effect.objects)
    assert IdempotencyRecord.objects.count() == 1


def test_a_message_with_its_own_id_as_key_is_delivered_once_and_another_is_another(db):
    _, second = deliver_twice(jobs.by_message)
    assert second.replayed
    assert not Message(jobs.by_message).deliver().replayed
    assert_effects(Effect.objects, expected=2)


def test_from_its_second_delivery_on_a_message_is_flagged_as_redelivered(db):
    message = Message(jobs.ship, 7, fails=True)
    message.deliver()
    message.deliver()
    events = IdempotencyEvent.objects.order_by("id")
    assert list(events.values_list("kind", "redelivered")) == [("failed", False), ("failed", True)]


def test_the_arguments_are_those_that_a_worker_gets(db):
    assert Message(jobs.ship, (7, 8)).args == ([7, 8],)
    with pytest.raises(TypeError, match="unexpected keyword"):
        Message(jobs.ship, order=7)


def test_a_failure_is_given_back_and_claimed_again(db):
    message = Message(jobs.ship, 7, fails=True)
    failed = message.deliver()
    assert isinstance(failed.error, ValueError)
    assert not failed.deferred
    assert not failed.parked
    assert_failed(message)
    assert_effects(Effect.objects, expected=0)
    with pytest.raises(AssertionError, match="has no result: raised: ValueError: no such street"):
        failed.result  # noqa: B018 it raises
    assert Message(jobs.ship, 7).deliver().result == [7, "shipped"]


def test_a_key_that_is_used_for_something_else_is_given_back(db):
    message = Message(jobs.ship, 7)
    message.deliver()
    assert isinstance(Message(jobs.ship, 7, fails=True).deliver().error, KeyReused)
    assert isinstance(Message(jobs.ship, None).deliver().error, KeyMissing)


def test_a_retry_is_caught_and_can_be_delivered(db):
    first = Message(jobs.patient, 7).deliver()
    assert isinstance(first.error, Retry)
    assert not first.deferred
    [copy] = first.published
    assert (copy.id, copy.retries) == (first.message.id, 1)
    [copy] = copy.deliver().published
    assert copy.deliver().result == "after 2 retries of 7"
    assert_effects(Effect.objects)


def test_a_call_inside_another_is_not_the_one_that_is_watched(db):
    message = Message(jobs.outer, 7)
    assert not message.deliver().replayed
    assert message.record.scope == "testing.outer"
    assert message.deliver().result == ["outer", "effect of 7"]


def test_a_task_that_is_idempotent_in_part_is_not_replayed(db):
    _, second = deliver_twice(jobs.part, 7)
    assert not second.replayed
    assert_effects(Effect.objects.filter(note="unprotected"), expected=2)


@pytest.mark.parametrize(("how", "kind"), [("ignore", Ignore), ("reject", Reject)])
def test_what_celery_would_do_is_seen(how, kind, db):
    delivered = Message(jobs.refuse, 7, how).deliver()
    assert isinstance(delivered.error, kind)
    assert delivered.published == ()


@commits
@pytest.mark.parametrize("task", [jobs.ship, jobs.charge, jobs.mail])
def test_of_deliveries_at_the_same_time_one_runs_and_the_others_are_deferred(task):
    message = Message(task, 7)
    ran, *deferred = deliver_concurrently(message, message, Message(task, 7))
    assert_effects(Effect.objects.filter(note="effect"))
    assert not ran.deferred
    for each in deferred:
        [copy] = each.published
        assert copy.id == each.message.id
        answer = copy.deliver()
        assert answer.replayed
        assert answer.result == ran.result


@commits
@pytest.mark.parametrize("task", [jobs.plain, jobs.view])
def test_without_celery_the_busy_call_raises(task):
    ran, busy = deliver_concurrently(Message(task, 7), Message(task, 7))
    assert ran.error is None
    assert isinstance(busy.error, AlreadyRunning)
    assert not busy.deferred
    assert_effects(Effect.objects)


@commits
def test_no_body_starts_before_every_other_delivery_has_looked(monkeypatch):
    looked, seen = set(), []
    look = Overlap.look

    def noted(overlap, who):
        looked.add(who)
        look(overlap, who)

    def view(number):
        return execute(lambda: seen.append(len(looked)) or number, key=number, scope="x").result

    monkeypatch.setattr(Overlap, "look", noted)
    delivered = deliver_concurrently(*(Message(view, number) for number in range(4)))
    assert [each.result for each in delivered] == [0, 1, 2, 3]
    assert seen == [4, 4, 4, 4]


@commits
def test_the_others_come_not_before_one_holds_its_key(monkeypatch):
    holders, started = [], []
    hold, start = Overlap.hold, Delivering.start
    monkeypatch.setattr(Overlap, "hold", lambda self: (holders.append(self), hold(self)))
    monkeypatch.setattr(
        Delivering, "start", lambda self: (started.append(len(holders)), start(self))
    )
    message = Message(jobs.ship, 7)
    deliver_concurrently(message, message, message)
    assert started == [0, 1, 1]


@commits
def test_deliveries_that_do_not_overlap_are_told(monkeypatch):
    monkeypatch.setattr(overlap, "PATIENCE", 0.1)
    monkeypatch.setattr(Overlap, "look", lambda *_: None)
    with pytest.raises(CannotDeliver, match="did not overlap"):
        deliver_concurrently(Message(jobs.ship, 7), Message(jobs.ship, 8))


@commits
def test_a_delivery_that_does_not_end_holds_nothing_any_longer(monkeypatch):
    monkeypatch.setattr(overlap, "LIFETIME", 0.1)
    is_over, ended = threading.Event(), threading.Event()

    def view(number):
        def body():
            Effect.objects.create(key=number, pid=0)
            is_over.wait(60)

        try:
            execute(body, key=number, scope="x")
        finally:
            ended.set()

    def ship_the_same():
        return execute(lambda: "free", key=7, scope="x").result

    try:
        with pytest.raises(CannotDeliver, match="did not end"):
            deliver_concurrently(Message(view, 7))
        delivered = wait_until(
            lambda: (now := Message(ship_the_same).deliver()).error is None and now, "a free key"
        )
        assert delivered.result == "free"
    finally:
        is_over.set()
        assert ended.wait(20)


@commits
def test_what_is_no_outcome_of_a_delivery_is_raised():
    with pytest.raises(CannotDeliver, match="without @idempotent"):
        deliver_concurrently(Message(jobs.ship, 7), Message(jobs.unprotected, 7))


@commits
def test_deliveries_at_the_same_time_are_refused_inside_a_transaction():
    message = Message(jobs.ship, 7)
    with transaction.atomic(), pytest.raises(CannotDeliver, match="transaction=True"):
        deliver_concurrently(message, message)


def test_deliveries_at_the_same_time_are_refused_where_nothing_commits(db):
    message = Message(jobs.ship, 7)
    with pytest.raises(CannotDeliver, match="transaction=True"):
        deliver_concurrently(message, message)
    assert_effects(Effect.objects, expected=0)


def test_a_task_without_protection_is_told_of(db):
    with pytest.raises(CannotDeliver, match="without @idempotent"):
        Message(jobs.unprotected, 7).deliver()


class DjangosTestCase(TestCase):
    def test_a_message_is_delivered_twice(self):
        _, second = deliver_twice(jobs.charge, 7)
        self.assertTrue(second.replayed)  # noqa: PT009 as Django's own tests are written
        assert_effects(Effect.objects)


class DjangosTransactionTestCase(TransactionTestCase):
    def test_a_message_is_delivered_at_the_same_time(self):
        message = Message(jobs.charge, 7)
        self.assertEqual(  # noqa: PT009 as Django's own tests are written
            sum(each.deferred for each in deliver_concurrently(message, message)), 1
        )
        assert_effects(Effect.objects)
