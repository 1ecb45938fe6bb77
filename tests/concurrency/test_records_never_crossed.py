"""Calls that look alike or run at the same time have each their own record."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connections

from idempotency import Leased, OnDoubt, current_attempt, execute
from idempotency.exceptions import KeyNested, NoAttempt
from idempotency.models import IdempotencyRecord
from idempotency.states import State
from tests.jobs import here, there
from tests.jobs.models import Effect, effects
from tests.jobs.tasks import effect

pytestmark = pytest.mark.django_db(transaction=True)

THREADS = 6


def in_threads(function, arguments):
    """Call the function in as many threads at once, each with a connection of its own."""

    def call(argument):
        try:
            return function(argument)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(arguments)) as threads:
        return list(threads.map(call, arguments))


def states():
    return [record.state for record in IdempotencyRecord.objects.all()]


def test_functions_of_the_same_name_in_two_modules_share_no_record():
    results = [module.work("key") for module in (here, there, here, there)]
    assert results == ["here", "there", "here", "there"]
    assert effects("key", "here") == effects("key", "there") == 1
    assert states() == [State.SUCCEEDED] * 2


def test_a_nested_call_has_its_own_record_and_its_own_attempt():
    def inner():
        effect("key", "inner")
        return current_attempt().key_hash

    def outer():
        before = current_attempt().key_hash
        nested = execute(inner, key="key", scope="inner").result
        effect("key", "outer")
        return [before, nested, current_attempt().key_hash]

    before, nested, after = execute(outer, key="key", scope="outer").result
    assert before == after != nested
    found = {record.scope: record.key_hash.hex for record in IdempotencyRecord.objects.all()}
    assert found == {"outer": before, "inner": nested}
    # Its own record, so it is a duplicate on its own too.
    assert execute(inner, key="key", scope="inner").replayed
    assert effects("key", "inner") == effects("key", "outer") == 1


def test_a_nested_call_is_not_recorded_when_the_outer_one_fails():
    def outer():
        execute(lambda: effect("key", "inner"), key="key", scope="inner")
        raise ValueError("after the inner call")

    with pytest.raises(ValueError, match="after the inner call"):
        execute(outer, key="key", scope="outer")
    assert effects("key", "inner") == 0
    assert not IdempotencyRecord.objects.filter(scope="inner").exists()
    assert not execute(lambda: effect("key", "inner"), key="key", scope="inner").replayed


def test_a_failed_nested_call_that_the_outer_one_catches_leaves_no_record_of_a_success():
    def failing():
        effect("key", "inner")
        raise ValueError("the inner call failed")

    def outer():
        with pytest.raises(ValueError, match="inner call failed"):
            execute(failing, key="key", scope="inner")
        effect("key", "outer")

    execute(outer, key="key", scope="outer")
    assert effects("key", "inner") == 0
    assert effects("key", "outer") == 1
    assert not IdempotencyRecord.objects.filter(scope="inner", state=State.SUCCEEDED).exists()
    assert not execute(lambda: effect("key", "inner"), key="key", scope="inner").replayed


def test_a_key_nested_in_itself_is_refused():
    def outer():
        execute(lambda: effect("key", "inner"), key="key", scope="scope")

    with pytest.raises(KeyNested):
        execute(outer, key="key", scope="scope")
    assert not Effect.objects.exists()
    assert not IdempotencyRecord.objects.filter(state=State.SUCCEEDED).exists()


def test_a_transactional_call_inside_a_leased_one_stands_by_itself():
    def outer():
        execute(lambda: effect("key", "inner"), key="key", scope="inner")
        raise ValueError("after the inner call")

    with pytest.raises(ValueError, match="after the inner call"):
        execute(outer, key="key", scope="outer", policy=Leased(on_doubt=OnDoubt.HOLD))
    assert execute(lambda: effect("key", "inner"), key="key", scope="inner").replayed
    assert effects("key", "inner") == 1


@pytest.mark.parametrize("policy", [{}, {"policy": Leased(on_doubt=OnDoubt.HOLD)}])
def test_threads_with_a_key_each_have_an_attempt_and_a_record_each(policy):
    barrier = threading.Barrier(THREADS)

    def run(number):
        def body():
            barrier.wait(timeout=20)  # all of them are in their bodies now
            effect(f"key {number}", "effect")
            return [number, current_attempt().key_hash]

        return execute(body, key=number, scope="threads", **policy).result

    results = in_threads(run, range(THREADS))
    assert [number for number, _ in results] == list(range(THREADS))
    hashes = {record.key_hash.hex: record.result for record in IdempotencyRecord.objects.all()}
    assert set(hashes) == {key_hash for _, key_hash in results}
    assert len(hashes) == THREADS
    for number, _ in results:
        assert effects(f"key {number}") == 1
        assert execute(int, key=number, scope="threads", **policy).result[0] == number


def test_threads_with_one_key_run_its_body_once():
    barrier = threading.Barrier(THREADS)

    def run(number):
        barrier.wait(timeout=20)
        done = execute(lambda: work(number), key="key", scope="s", wait=timedelta(seconds=30))
        return [done.result, done.replayed]

    def work(number):
        effect("key", "effect")
        return number

    ended = in_threads(run, range(THREADS))
    assert sorted(replayed for _, replayed in ended) == [False] + [True] * (THREADS - 1)
    assert len({result for result, _ in ended}) == 1
    assert effects("key") == 1


def test_a_thread_started_by_a_body_has_no_attempt():
    def look(_):
        with pytest.raises(NoAttempt):
            current_attempt()
        return True

    assert execute(lambda: in_threads(look, [None]), key="key", scope="scope").result == [True]
