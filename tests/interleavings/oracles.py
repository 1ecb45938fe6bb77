"""What must be true after each schedule, by what the bodies did and by what callers were told."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from idempotency.calls import Outcome
from idempotency.exceptions import AlreadyRunning, InDoubt, LeaseLost, TransactionLost
from idempotency.maintenance import sweep
from idempotency.states import State
from idempotency.testing import SimulatedCrash
from tests.interleavings.acts import look_and_resolve
from tests.interleavings.situation import Left, Scene

#: The limit that the guarantees name: a frozen worker wakes after somebody has looked in vain.
SECOND_EFFECT = "a second effect, of a stale worker"


def rows_and_record_are_one(scene: Scene) -> None:
    """Transactional: one committed row, or none and no success; nobody is stuck."""
    left = _left_by_success(scene)
    ends = _deliveries(scene, AlreadyRunning)
    for actor, end in enumerate(ends):
        if isinstance(end, Outcome):
            assert [end.result] == left.rows, "a success was told that is not committed"
            assert end.replayed is (end.result != actor), "who ran the body is told otherwise"
    if all(isinstance(end, AlreadyRunning) for end in ends):
        assert scene.situation.may_defer_all, "all are busy, and with what?"
    if not left.rows:
        scene.lapse()
        last = scene.situation.acts[scene.situation.last](scene, len(scene.outcomes))
        assert not last.replayed
        assert _left_by_success(scene).rows == [last.result]


def held(scene: Scene) -> None:
    """HOLD and ask: one outside effect, but for the one way to two that the guarantees name."""
    _leased_ends_are_told(scene)
    _ends_in_a_success(scene)
    assert scene.outside, "a success without an effect"
    if len(scene.outside) > 1:
        _only_by_a_stale_worker(scene)
        scene.noted.add(SECOND_EFFECT)


def _only_by_a_stale_worker(scene: Scene) -> None:
    """An attempt that had begun was looked for in vain, and had its effect only then."""
    looks = [place for place, (what, _) in enumerate(scene.log) if what == "unseen"]
    stale = [
        sent.actor
        for sent in scene.outside
        if any(_began(scene, sent.actor) < look < _sent(scene, sent.actor) for look in looks)
    ]
    assert len(scene.outside) == 2, f"more than two effects: {scene.log}"
    assert len(stale) == 1, f"two effects, and not by one stale worker: {scene.log}"


def _began(scene: Scene, actor: int) -> int:
    return scene.log.index(("begun", actor))


def _sent(scene: Scene, actor: int) -> int:
    return scene.log.index(("sent", actor))


def repeated_with_one_key(scene: Scene) -> None:
    """RETRY: as often as an attempt was taken for dead, and always with one provider key."""
    _leased_ends_are_told(scene)
    assert len(scene.outside) <= scene.left().attempts, "an effect outside of any attempt"
    _ends_in_a_success(scene)
    assert len({sent.provider_key for sent in scene.outside}) == 1, scene.outside


def settled_rows_are_fenced(scene: Scene) -> None:
    """Rows of `settling()`: committed with the settlement of their attempt, once."""
    rows = _left_by_success(scene).rows
    for end in _deliveries(scene, AlreadyRunning, InDoubt, LeaseLost):
        if isinstance(end, Outcome):
            assert [end.result] == rows, "a success was told that is not committed"
    _ends_in_a_success(scene)
    assert _left_by_success(scene).rows[: len(rows)] == rows, "a committed row is gone"


def once_for_each_time_it_was_allowed(scene: Scene) -> None:
    """Rows and outside effects under one key, whatever each delivery's policy: one in all, and one
    more whenever somebody has allowed it again, under a provider key of its own."""
    ends = _deliveries(scene, AlreadyRunning, InDoubt, LeaseLost, TransactionLost)
    for end in ends:
        if isinstance(end, Outcome):
            assert end.result in _effects(scene), "a success was told of an effect that is not"
    _ends_in_a_success(scene)
    allowed = [what for what, _ in scene.log].count("allowed")
    assert 1 <= len(_effects(scene)) <= 1 + allowed, f"{_effects(scene)}, and {allowed} allowed"
    used = [sent.provider_key for sent in scene.outside]
    assert len(set(used)) == len(used), "one provider key, and two effects"


def no_body_runs_in_vain(scene: Scene) -> None:
    """Who runs under its key's lock commits, whatever its record comes to look like meanwhile."""
    once_for_each_time_it_was_allowed(scene)
    ran = [actor for what, actor in scene.log if what == "ran"]
    assert ran == scene.left().rows, f"{ran} ran, and {scene.left().rows} are committed"


def _effects(scene: Scene) -> list[int]:
    """Who has had one."""
    return [*scene.left().rows, *(sent.actor for sent in scene.outside)]


def _left_by_success(scene: Scene) -> Left:
    left = scene.left()
    assert len(left.rows) <= 1, f"the effects of {left.rows} are committed"
    told = [json.loads(result) for result in left.results]
    assert told == left.rows, f"rows of {left.rows}, and records of {told} ({left.states})"
    return left


def _deliveries(scene: Scene, *allowed: type[Exception]) -> list[Any]:
    """How they ended: in an outcome, or in an error that may be."""
    number = scene.situation.deliveries
    ends, others = scene.outcomes[:number], scene.outcomes[number:]
    assert not any(isinstance(end, BaseException) for end in others), others
    may_be = (Outcome, SimulatedCrash, scene.situation.error, *allowed)
    assert all(isinstance(end, may_be) for end in ends), ends
    return ends


def _leased_ends_are_told(scene: Scene) -> None:
    senders = [sent.actor for sent in scene.outside]
    ends = _deliveries(scene, AlreadyRunning, InDoubt, LeaseLost)
    for actor, end in enumerate(ends):
        if isinstance(end, Outcome):
            assert end.result in senders, f"{actor} is told of an effect that nobody had"
            assert end.replayed or end.result == actor, "who ran the body is told otherwise"
    _no_message_is_forgotten(scene, ends)


def _no_message_is_forgotten(scene: Scene, ends: list[Any]) -> None:
    """Who was told of a doubt waits for its end, or was published by it."""
    left = scene.left()
    for actor, end in enumerate(ends):
        if isinstance(end, InDoubt):
            message = f"message {actor}"
            assert message in left.parked + scene.published, f"{message} is lost"
    if State.IN_DOUBT not in left.states:
        if scene.situation.faults:
            sweep()  # who was to publish them may have died
            left = scene.left()
        assert not left.parked, f"{left.parked} wait, and there is no doubt any more"


def _ends_in_a_success(scene: Scene) -> None:
    """Time passes, somebody looks after doubts, the sweeper runs: then the next delivery has the
    effect or is answered, and no message waits any more."""
    act, left = scene.situation.acts[scene.situation.last], scene.left()
    for actor in range(len(scene.outcomes), len(scene.outcomes) + 2):
        if left.states == [State.SUCCEEDED]:
            break
        scene.lapse()
        look_and_resolve(scene, actor)
        with suppress(scene.situation.error):
            act(scene, actor)
        left = scene.left()
    assert left.states == [State.SUCCEEDED], f"nothing ends it: {left.states}"
    if left.parked:
        sweep()
        assert not scene.left().parked, "a message waits for nothing"
