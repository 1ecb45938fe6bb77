"""What a page says comes next is what comes: each record meets its next delivery."""

from datetime import timedelta
from itertools import product
from uuid import uuid4

import pytest
from django.utils import timezone
from psycopg import connect

from idempotency import Leased, OnDoubt, Transactional, Verdict, execute
from idempotency.digests import digest
from idempotency.exceptions import AlreadyRunning, Exhausted, InDoubt
from idempotency.lookup import hashes_of
from idempotency.models import IdempotencyRecord
from idempotency.prospects import Act, spoken, what_next
from tests.admin.records import ago, made
from tests.harness.processes import database_url

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
POLICIES = {
    None: Transactional(),
    "transactional": Transactional(),
    "hold": Leased(on_doubt=OnDoubt.HOLD),
    "retry": Leased(on_doubt=OnDoubt.RETRY, provider_window=None),
    "ask": Leased(on_doubt=lambda doubt: Verdict.unknown()),
}
#: By words of the sentence, in this order: what the next delivery comes to.
MEANS = {
    "busy to every other delivery. Its": "busy",
    "still be at work": "busy",
    "is answered": "replayed",
    "No delivery runs": "exhausted",
    "finds it exhausted": "exhausted",
    "finds a doubt": "in doubt",
    "says what happened": "in doubt",
    "the next delivery runs": "ran",
    "The next delivery runs": "ran",
}


def records():
    """Every record that can be: state, policy, effect begun, lease, expiry, deaths, window."""
    for state, policy, begun, lease, expires, deaths, window, stopped in product(
        ("running", "succeeded", "failed", "in_doubt"),
        POLICIES,
        (False, True),
        (None, -DAY, DAY),
        (-DAY, DAY),
        (None, 9, 10),
        (None, -DAY, DAY),
        (False, True),
    ):
        is_open = state in ("running", "in_doubt")
        is_leased = policy in ("hold", "retry", "ask")
        if (
            (is_open and policy is None)
            or (state == "running" and lease is None)
            or (not is_open and lease is not None)
            or (begun and not is_leased)
            or (state == "in_doubt" and not begun)
            or (window is not None and policy != "retry")
            or (stopped and state != "failed")
        ):
            continue
        yield {
            "state": state,
            "policy": policy,
            "claim_id": uuid4() if policy else None,
            "claimed_at": ago(minutes=5) if policy else None,
            "effect_begun_at": ago(minutes=5) if begun else None,
            "lease_expires_at": lease and timezone.now() + lease,
            "expires_at": timezone.now() + expires,
            "deaths": deaths,
            "repeat_until": window and timezone.now() + window,
            "exhausted_at": ago(minutes=4) if stopped else None,
        }


def come_to(policy):
    try:
        return "replayed" if execute(int, key=7, scope="test", policy=policy).replayed else "ran"
    except AlreadyRunning:
        return "busy"
    except InDoubt:
        return "in doubt"
    except Exhausted:
        return "exhausted"


@pytest.mark.django_db
def test_what_is_said_to_come_next_is_what_the_next_delivery_comes_to():
    [key_hash] = set(hashes_of("7", ["test"])) - set(hashes_of('"7"', ["test"]))
    said = set()
    for columns in records():
        IdempotencyRecord.objects.all().delete()
        record = made(**columns, scope="test", key_hash=key_hash)
        prospect = what_next(record, record.seen_at)
        meant = next(told for words, told in MEANS.items() if words in prospect.sentence)
        assert come_to(POLICIES[columns["policy"]]) == meant, (columns, prospect)
        assert columns["exhausted_at"] is None or meant == "exhausted"
        said |= {(meant, prospect.waits_for)}
    assert {
        ("in doubt", Act.RESOLVE),
        ("exhausted", Act.ALLOW_AGAIN),
        ("exhausted", None),
        ("replayed", None),
        ("busy", None),
        ("ran", None),
    } <= said


@pytest.mark.django_db
def test_an_operator_is_waited_for_only_where_nothing_else_helps():
    waiting = made("in_doubt")
    assert what_next(waiting, waiting.seen_at).waits_for is Act.RESOLVE
    early = made("in_doubt", policy="ask", lease_expires_at=ago(seconds=-41))
    said = what_next(early, early.lease_expires_at - 41 * SECOND)
    assert said.waits_for is None
    assert "in 41 s" in said.sentence
    running = made("running", policy="retry", lease_expires_at=ago(minutes=-1))
    said = what_next(running, running.lease_expires_at - 41 * SECOND).sentence
    assert "runs out in 41 s" in said
    assert "The next delivery runs, and repeats the effect with the same provider key." in said


@pytest.mark.django_db
@pytest.mark.parametrize(
    "columns",
    [
        {"policy": "transactional", "effect_begun_at": None},
        {"policy": "transactional", "effect_begun_at": None, "deaths": 9},
        {"policy": "retry"},
        {"policy": "retry", "deaths": 9},
        {"policy": "retry", "repeat_until": ago(days=1)},
    ],
)
def test_what_may_run_in_a_transaction_is_said_to_be_busy_while_it_does(columns):
    key = digest(7, scope="test", secrets=())
    about = {"scope": "test", "key_hash": key.hashes[0], "lease_expires_at": ago(days=1)}
    record = made("running", **about | columns)
    said = what_next(record, record.seen_at).sentence
    assert said.endswith(
        "While a transaction is open under its key, it is busy to every other delivery."
    )
    with connect(database_url()) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [*key.lock_numbers])
        assert come_to(POLICIES[columns["policy"]]) == "busy"
    assert come_to(POLICIES[columns["policy"]]) != "busy"


def test_a_duration_has_one_unit():
    told = {0: "0 s", 0.25: "0.2 s", 41: "41 s", 119: "119 s", 120: "2 min", 7200: "2 h"}
    for seconds, words in told.items():
        assert spoken(seconds * SECOND) == words
    assert spoken(40 * DAY) == "40 d"
    assert spoken(-SECOND) == "0 s"
