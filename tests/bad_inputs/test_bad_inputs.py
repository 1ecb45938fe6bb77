"""Every bad input that we know of: what it raises, what it says, and what it leaves."""

import logging
from pathlib import Path

import pytest
from django.test import override_settings

import idempotency
from idempotency import Transactional, execute, jobs
from idempotency.exceptions import KeyReused
from idempotency.models import IdempotencyEvent, IdempotencyRecord
from tests.bad_inputs.accepted import ACCEPTED
from tests.bad_inputs.case import HOLD, SCOPE
from tests.bad_inputs.table import MOMENTS
from tests.execution.bodies import effect, effects

pytestmark = pytest.mark.django_db(transaction=True)

CASES = [case for moment in MOMENTS for case in moment.cases]


@pytest.fixture(autouse=True)
def _only_the_project_s_scopes(monkeypatch):
    """The cases declare functions by the way, and give two of them one scope."""
    monkeypatch.setattr(jobs, "jobs", {})
    monkeypatch.setattr(jobs, "clashes", set())


@pytest.mark.parametrize("case", CASES, ids=[case.given for case in CASES])
def test_a_bad_input_is_refused_and_says_why(case, caplog):
    if case.error is None:
        case.act()
        said = [line for line in caplog.records if line.levelno >= logging.WARNING]
        [message] = [line.message for line in said if not hasattr(line, "idempotency_event")]
    else:
        with pytest.raises(case.error) as refused:
            case.act()
        assert type(refused.value) is case.error
        message = str(refused.value)
    assert case.is_said_by(message), message
    assert "hunter2" not in message
    assert tuple(IdempotencyRecord.objects.values_list("state", flat=True)) == case.leaves
    assert effects() == case.effects


def test_no_situation_is_there_twice():
    assert len({case.given for case in CASES}) == len(CASES)


@pytest.mark.parametrize("accepted", ACCEPTED, ids=[accepted.given for accepted in ACCEPTED])
def test_what_is_no_error_counts_as_the_page_says(accepted):
    for call in accepted.calls * 2:
        call()
    assert effects() == IdempotencyRecord.objects.count() == accepted.effects


@pytest.mark.parametrize("policy", [Transactional(), HOLD], ids=["transactional", "leased"])
@pytest.mark.parametrize("value", [0, 0.0, "", [], {}, None, False, "a\0b", "\ud800"], ids=repr)
def test_a_result_that_looks_like_nothing_is_replayed_as_it_is(value, policy):
    for is_replay in (False, True):
        outcome = execute(lambda: value, key=7, scope=SCOPE, policy=policy)
        assert repr(outcome.result) == repr(value)
        assert outcome.replayed is is_replay


@override_settings(IDEMPOTENCY={"STORE_KEY": True})
def test_a_readable_key_is_cut_and_holds_no_nul():
    execute(effect, key="a\0" + "x" * 10**6, scope=SCOPE)
    stored = IdempotencyRecord.objects.get().key
    assert stored.startswith('"a\\u0000xxx')
    assert (len(stored), stored[-1]) == (200, "…")


def test_a_key_that_is_a_secret_is_written_nowhere(caplog):
    for _ in range(2):
        execute(effect, key="hunter2", scope=SCOPE, fingerprint="hunter3")
    with pytest.raises(KeyReused) as refused:
        execute(effect, key="hunter2", scope=SCOPE, fingerprint="hunter4")
    rows = [*IdempotencyRecord.objects.values(), *IdempotencyEvent.objects.values()]
    assert len(rows) == 2
    for text in (str(rows), str(refused.value), caplog.text):
        assert "hunter" not in text


def test_the_clock_of_a_worker_decides_nothing():
    """Leases and expiry are judged by the database's clock; only the age of a message that is
    deferred, hours against ``DEFER_FOR``, is read from the worker's."""
    clocks = ("timezone.now(", "datetime.now(", "time.time(", "utcnow(")
    sources = Path(idempotency.__file__).parent.rglob("*.py")
    readers = {path.name for path in sources if any(clock in path.read_text() for clock in clocks)}
    assert readers == {"celery.py"}
