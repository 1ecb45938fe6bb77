"""Chains, groups and chords whose members are killed, duplicated, busy and in doubt."""

import celery
import pytest
from celery import chord, group

from idempotency import Verdict
from idempotency.models import IdempotencyRecord, ParkedMessage
from idempotency.resolution import resolve
from idempotency.states import State
from tests.harness.waiting import wait_until
from tests.harness.workers import kill_child
from tests.jobs.models import Effect, effects
from tests.jobs.tasks import (
    collect,
    create,
    leased,
    next_step,
    replacing,
    transactional,
    unclear,
)

pytestmark = pytest.mark.django_db(transaction=True)

#: What would differ if it were encoded anew by chance.
VALUE = {"ü": [0.1 + 0.2, 2**70, None], "at": "2026-01-01T00:00:00Z"}


def collected(key="body"):
    notes = Effect.objects.filter(key=key).values_list("note", flat=True)
    return [note for note in notes if note.startswith("collected")]


def a_chord(*members):
    return chord(group(*members), collect.s("body"))


def assert_collected_once(queue, result, values):
    assert result.get(timeout=60) == values
    queue.wait_empty()
    assert len(collected()) == 1


@pytest.fixture
def send_through_a_kill(worker, queue, gates):
    """Send a canvas, and kill the worker at a gate of it; the result of the canvas."""

    def send(gate, canvas, **options):
        gates.close(gate)
        # The whole worker: for a lost pool process whose task has ended Celery 5.7 looks at the
        # result, and acknowledges the message if there is one.
        holder = worker(**options)
        result = queue.send(canvas)
        gates.wait_for_arrivals(gate)
        holder.kill()
        gates.open(gate)
        worker(**options)
        return result

    return send


UNORDERED = pytest.param(
    {"TEST_CHORD_UNORDERED": 1},
    marks=pytest.mark.skipif(celery.VERSION < (5, 7), reason="before Celery 5.7 it counts twice"),
    id="unordered",
)


@pytest.mark.parametrize("options", [{}, UNORDERED])
def test_a_member_killed_after_its_part_was_counted_is_counted_once(
    options, send_through_a_kill, queue, gates
):
    # Three: one counted twice would complete the chord without the last.
    members = [transactional.s(name, VALUE if name == "a" else name) for name in ("a", "b", "c")]
    result = send_through_a_kill("end-transactional", a_chord(*members), **options)
    gates.wait_for_arrivals("delivery-transactional", 4)
    assert_collected_once(queue, result, [VALUE, "b", "c"])
    assert (effects("a"), effects("b"), effects("c")) == (1, 1, 1)


def test_a_member_killed_between_its_commit_and_its_part_is_counted(worker, queue, gates, proxy):
    commit = proxy.hold(after="COMMIT")
    worker(database=proxy.url)
    result = queue.send(a_chord(transactional.s("a", VALUE), transactional.s("b", "b")))
    commit.wait_reached()
    kill_child(*gates.arrivals("effect"))
    assert_collected_once(queue, result, [VALUE, "b"])
    assert (effects("a"), effects("b")) == (1, 1)


def test_a_member_killed_while_it_publishes_the_body_publishes_it_when_its_claim_has_lapsed(
    send_through_a_kill, queue, gates
):
    """Celery 5.7 claims that publication, for 8 s here; the member comes again before that."""
    members = a_chord(transactional.s("a", VALUE), transactional.s("b", "b"))
    result = send_through_a_kill("publish-collect", members, TEST_NO_PUBLISH_RETRY=1)
    assert_collected_once(queue, result, [VALUE, "b"])
    assert (effects("a"), effects("b")) == (1, 1)


@pytest.mark.skipif(celery.VERSION < (5, 7), reason="Celery before 5.7 looks at no result")
@pytest.mark.parametrize("ignored", [False, True])
def test_a_pool_process_killed_while_it_publishes_the_body_ends_the_chord_unless_it_keeps_no_result(
    ignored, worker, queue, gates
):
    gates.close("publish-collect")
    worker(visibility_timeout=60, TEST_NO_PUBLISH_RETRY=1)
    members = [transactional.s("a", VALUE), transactional.s("b", "b")]
    result = queue.send(a_chord(*(each.set(ignore_result=ignored) for each in members)))
    kill_child(*gates.wait_for_arrivals("publish-collect"))
    gates.open("publish-collect")
    if ignored:
        assert_collected_once(queue, result, [VALUE, "b"])
    else:
        queue.wait_empty()
        assert collected() == []
    assert (effects("a"), effects("b")) == (1, 1)


def test_a_member_delivered_again_while_it_runs_is_counted_once(worker, queue, gates):
    gates.close("effect")
    for _ in range(2):
        worker(visibility_timeout=2)
    result = queue.send(a_chord(transactional.s("a", VALUE), next_step.s("b", "b")))
    gates.wait_for_arrivals("delivery-transactional", 3, seconds=30)
    assert collected() == []
    gates.open("effect")
    assert_collected_once(queue, result, [VALUE, "b"])
    assert effects("a") == 1


def test_two_chords_that_hold_one_key_both_complete(worker, queue, gates):
    worker(concurrency=2)
    one = queue.send(a_chord(transactional.s("a", VALUE), transactional.s("b", "b")))
    assert one.get(timeout=60) == [VALUE, "b"]
    two = queue.send(
        chord(group(transactional.s("a", VALUE), transactional.s("c", "c")), collect.s("other"))
    )
    assert two.get(timeout=60) == [VALUE, "c"]
    queue.wait_empty()
    assert (len(collected()), len(collected("other")), effects("a")) == (1, 1, 1)


def test_a_chord_body_that_is_killed_has_one_effect(send_through_a_kill, queue):
    result = send_through_a_kill(
        "end-collect", a_chord(transactional.s("a", VALUE), transactional.s("b", "b"))
    )
    assert_collected_once(queue, result, [VALUE, "b"])


MEMBERS = pytest.mark.parametrize(
    "member",
    [lambda task: task, lambda task: task | next_step.s("c")],
    ids=["", "a step of a chain that is a member"],
)


@MEMBERS
def test_a_chord_waits_for_a_member_in_doubt(member, worker, queue, gates):
    gates.close("effect")
    worker(lease=1)
    result = queue.send(a_chord(member(leased.s("a")), next_step.s("b", "b")))
    kill_child(*gates.wait_for_arrivals("effect"))
    gates.open("effect")
    wait_until(ParkedMessage.objects.exists, "the member to be parked", seconds=40)
    queue.wait_empty()
    assert not result.ready()
    doubt = IdempotencyRecord.objects.get(state=State.IN_DOUBT)
    resolve(doubt.key_hash, Verdict.happened("seen there"), reason="seen there")
    assert_collected_once(queue, result, ["seen there", "b"])
    assert (gates.directory / "outbox").read_text() == "a\n"


@MEMBERS
def test_a_member_that_makes_a_doubt_does_not_fail_its_chord(member, worker, queue):
    worker()
    result = queue.send(a_chord(member(unclear.s("a")), next_step.s("b", "b")))
    wait_until(ParkedMessage.objects.exists, "the member to be parked")
    queue.wait_empty()
    assert not result.ready()
    doubt = IdempotencyRecord.objects.get(state=State.IN_DOUBT)
    resolve(doubt.key_hash, Verdict.happened("seen there"), reason="seen there")
    assert_collected_once(queue, result, ["seen there", "b"])


def test_a_chain_whose_middle_is_killed_goes_on_once(send_through_a_kill, queue):
    chain = transactional.s("a", VALUE) | next_step.s("b") | collect.s("body")
    result = send_through_a_kill("end-next_step", chain)
    assert_collected_once(queue, result, VALUE)
    assert (effects("a"), effects("b", "next step")) == (1, 1)


def test_a_chord_inside_of_a_chain_completes_once(send_through_a_kill, queue):
    members = group(next_step.s("a"), next_step.s("b"))
    result = send_through_a_kill("end-create", create.s(["x"]) | members | collect.s("body"))
    assert_collected_once(queue, result, [["x"], ["x"]])
    assert (effects("a", "next step"), effects("b", "next step")) == (1, 1)


def test_a_replaced_task_that_is_killed_is_replaced_once(send_through_a_kill, queue, gates):
    result = send_through_a_kill("end-replacing", replacing.s("key"))
    assert result.get(timeout=40) == "value"
    gates.wait_for_arrivals("end-next_step", 2)
    queue.wait_empty()
    assert effects("key", "next step") == 1
    assert effects("key", "replacing") == 0  # rolled back: that body never ended
