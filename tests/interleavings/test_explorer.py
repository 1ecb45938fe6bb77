"""The explorer itself: it stops everywhere, tries everything, and what it finds can be repeated."""

import itertools
from math import comb

import pytest
from django.db import connection, transaction
from psycopg.conninfo import conninfo_to_dict

from idempotency.storage import postgresql
from tests.interleavings.actors import DEATHS, Fate, is_local, point
from tests.interleavings.explorer import BrokenPromise, Choice, explore, play
from tests.interleavings.situation import Situation
from tests.interleavings.situations import HELD_MARKED, SITUATIONS, WRITES
from tests.interleavings.stage import stage

pytestmark = pytest.mark.django_db(transaction=True)


def situation(*acts, **options):
    options = {"check": lambda scene: None, "deliveries": len(acts), "all_points": True} | options
    return Situation(name="of this test", acts=acts, **options)


def three_points(scene, actor):
    for number in range(3):
        point(f"({number})")
        scene.log.append((number, actor))


@pytest.mark.parametrize(
    ("preemptions", "number"),
    # Without preemption one goes after the other; with one, the first stops after 1 or 2 points.
    [(None, comb(6, 3)), (0, 2), (1, 2 + 2 * 2)],
)
def test_all_schedules_are_tried_and_none_twice(preemptions, number):
    seen = []
    explored = explore(
        situation(
            *[three_points] * 2,
            preemptions=preemptions,
            check=lambda scene: seen.append(tuple(scene.log)),
        )
    )
    assert explored.schedules == len(seen) == len(set(seen)) == number


def test_each_actor_can_die_at_each_point():
    explored = explore(situation(*[three_points] * 2, preemptions=0, faults=DEATHS))
    # One after the other; or one of the six steps of either order is a death.
    assert explored.schedules == 2 + 2 * 6 * len(DEATHS)


@pytest.mark.parametrize("act", [WRITES, HELD_MARKED])
def test_each_message_to_the_server_is_a_point(act, proxy, monkeypatch):
    through = conninfo_to_dict(proxy.url)
    monkeypatch.setitem(connection.settings_dict, "HOST", through["host"])
    monkeypatch.setitem(connection.settings_dict, "PORT", through["port"])

    def connected(scene, actor):
        proxy.statements.clear()
        sent.clear()
        return act(scene, actor)

    sent, alone = [], situation(connected, check=lambda scene: seen.extend(proxy.statements))
    seen = []
    with stage(1, all_points=True) as on:

        def choose(ready):
            sent.extend([ready[0].at] if ready[0].sends else [])
            return Choice(0, Fate.SENT, "")

        play(on, alone, choose)
    # The stage itself looks into the server through the same proxy.
    first_words = [message.split()[0] for message in seen if "pg_blocking_pids" not in message]
    assert [message.split()[0] for message in sent] == first_words
    assert len(first_words) >= 3


@pytest.mark.parametrize(
    ("message", "is_unseen"),
    [
        ("BEGIN", True),
        ("BEGIN; SELECT now(), pg_try_advisory_xact_lock(1)", False),
        ("INSERT INTO idempotency_event (kind) VALUES ($1)", True),
        ("INSERT INTO idempotency_event (kind) VALUES ($1); COMMIT", False),
        ("SELECT set_config('lock_timeout', '1000ms', true)", True),
        ("SELECT set_config('lock_timeout', '1000ms', true); COMMIT", False),
        ("SELECT now(), pg_try_advisory_xact_lock(1); SELECT 1 FROM idempotency_record", False),
    ],
)
def test_a_message_with_two_statements_is_seen_whatever_the_first_one_is(message, is_unseen):
    connection.ensure_connection()
    assert is_local(message, connection.connection) is is_unseen


def lock(number):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [number])


def test_who_waits_for_a_lock_goes_on_when_it_is_free():
    def act(scene, actor):
        with transaction.atomic():
            lock(1)
            scene.log.append(("locked", actor))
        scene.log.append(("done", actor))

    def check(scene):
        first = scene.log[0][1]
        locked = [actor for what, actor in scene.log if what == "locked"]
        assert locked == [first, 1 - first]

    assert explore(situation(act, act, check=check)).schedules > 2


def test_a_deadlock_is_ended_by_the_server():
    def act(scene, actor):
        with transaction.atomic():
            lock(actor)
            lock(1 - actor)

    ends = []
    with stage(2, all_points=True) as on:
        both = situation(act, act, check=lambda scene: ends.extend(map(type, scene.outcomes)))
        play(on, both, in_turns())
    assert sorted(end.__name__ for end in ends) == ["NoneType", "OperationalError"]


def in_turns():
    turns = itertools.count()

    def choose(ready):
        return Choice(ready[next(turns) % len(ready)].index, Fate.SENT, "")

    return choose


def test_a_broken_promise_is_printed_as_a_test_that_repeats_it(monkeypatch):
    blindly = postgresql.OVER_SEEN.replace("'succeeded' END", "'succeeded' ELSE 'succeeded' END")
    assert blindly != postgresql.OVER_SEEN
    with monkeypatch.context() as breakage:
        breakage.setattr(postgresql, "OVER_SEEN", blindly)
        with pytest.raises(BrokenPromise, match="effects of") as broken:
            explore(SITUATIONS["transactional-without-locks-after-a-failure"])
        printed = {}
        exec(str(broken.value).partition("To repeat it alone:")[2], printed)  # noqa: S102 our own
        with pytest.raises(BrokenPromise, match="effects of"):
            printed["test_the_schedule"]()
    printed["test_the_schedule"]()


def test_a_schedule_that_goes_another_way_is_no_schedule():
    """What is not repeated exactly would leave others untried."""
    times = itertools.count()

    def act(scene, actor):
        for _ in range(3 - next(times)):
            point("(again)")

    with pytest.raises(AssertionError, match="went another way"):
        explore(situation(act, three_points))
