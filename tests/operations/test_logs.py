"""One line for each thing that happens, with stable fields, and nothing that must stay hidden."""

import logging
import uuid
from contextlib import suppress
from datetime import timedelta

import pytest
from django.test import override_settings

from idempotency import Leased, OnDoubt, Transactional, Verdict, execute, idempotent, signals
from idempotency.events import tell, told
from idempotency.exceptions import InDoubt, KeyReused
from idempotency.logs import LEVELS
from idempotency.maintenance import sweep
from idempotency.models import IdempotencyRecord
from idempotency.redaction import redacted
from idempotency.resolution import resolve
from tests.execution.bodies import the_record

KEY = uuid.UUID("00112233445566778899aabbccddeeff")
SECRET = "4929-1234-5678-9012"  # noqa: S105 of nobody
HOLD = Leased(on_doubt=OnDoubt.HOLD)


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.DEBUG, logger="idempotency")
    return lambda: caplog.records


def about(**more):
    return told(using="default", key_hash=KEY, scope="shop.ship", task_id=None) | more


def hide(field, text):
    return f"<{field}>"


def hide_digits(field, text):
    return "".join("#" if letter.isdigit() else letter for letter in text)


def broken(field, text):
    raise ValueError(text)


@pytest.mark.parametrize("event", LEVELS)
def test_each_signal_is_one_line_at_its_level(event, lines):
    tell(getattr(signals, event), about(attempt=2))
    [line] = lines()
    assert (line.name, line.levelno) == ("idempotency", LEVELS[event])
    assert line.getMessage().startswith(f"{event} using=default key_hash={KEY.hex} scope=shop.ship")
    assert (line.idempotency_event, line.idempotency_attempt) == (event, 2)


def test_a_line_has_all_fields_and_says_those_that_are_there(lines):
    duration = timedelta(milliseconds=1500)
    tell(
        signals.attempt_failed,
        about(task_id="t-1", attempt=1, duration=duration, worker="h:1", note="Two\nlines"),
    )
    [line] = lines()
    assert line.getMessage() == (
        f"attempt_failed using=default key_hash={KEY.hex} scope=shop.ship task_id=t-1 attempt=1 "
        'worker=h:1 duration=1.5 redelivered=False note="Two\\nlines"'
    )
    fields = {name: value for name, value in vars(line).items() if name.startswith("idempotency_")}
    assert fields == {
        "idempotency_event": "attempt_failed",
        "idempotency_using": "default",
        "idempotency_key_hash": KEY.hex,
        "idempotency_scope": "shop.ship",
        "idempotency_task_id": "t-1",
        "idempotency_attempt": 1,
        "idempotency_worker": "h:1",
        "idempotency_duration": 1.5,
        "idempotency_redelivered": False,
        "idempotency_note": "Two\nlines",
    }


@pytest.mark.django_db(transaction=True)
def test_no_key_argument_or_result_is_logged(lines):
    def fail():
        raise ValueError("unclear")

    for scope, policy in (("rows", Transactional()), ("mails", HOLD)):
        options = {"scope": scope, "policy": policy}
        for fingerprint in (SECRET, SECRET, "another"):
            with suppress(KeyReused):
                execute(lambda: {"card": SECRET}, key=SECRET, fingerprint=fingerprint, **options)
        for _ in range(2):
            with suppress(ValueError, InDoubt):
                execute(fail, key=("failing", SECRET), **options)
    [doubt] = IdempotencyRecord.objects.filter(state="in_doubt")
    resolve(doubt.key_hash, Verdict.happened(SECRET), reason="seen")
    assert {line.idempotency_event for line in lines()} >= {
        "attempt_succeeded",
        "duplicate_replayed",
        "attempt_failed",
        "doubt_found",
        "doubt_resolved",
    }
    assert SECRET not in "".join(str(vars(line)) for line in lines())


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (None, "card 4929"),
        (f"{__name__}.hide", "<note>"),
        (f"{__name__}.hide_digits", "card ####"),
        (f"{__name__}.broken", "(not shown: REDACT raised ValueError)"),
    ],
)
def test_what_may_be_shown_is_said_by_one_function(path, shown, lines):
    with override_settings(IDEMPOTENCY={"REDACT": path}):
        assert redacted("note", "card 4929") == shown
        tell(signals.attempt_failed, about(note="card 4929"))
    assert lines()[0].idempotency_note == shown
    assert shown in lines()[0].getMessage()


@pytest.mark.parametrize("wrong", ["nowhere.redact", "not a path", f"{__name__}.KEY", 7])
def test_with_a_function_that_is_not_there_nothing_is_shown(wrong):
    with override_settings(IDEMPOTENCY={"REDACT": wrong}):
        assert redacted("note", SECRET) == "(not shown: REDACT raised ImproperlyConfigured)"


@pytest.mark.parametrize("function", ["hide", "broken"])
@pytest.mark.django_db
def test_the_text_of_a_traceback_is_shown_as_the_function_says(function, caplog):
    def ask(doubt):
        raise ValueError(SECRET)

    @idempotent(key="order", scope="pay", policy=Leased(on_doubt=ask))
    def pay(order):
        raise TimeoutError

    with suppress(TimeoutError):
        pay(7)
    IdempotencyRecord.objects.update(lease_expires_at=the_record().created_at)
    with override_settings(IDEMPOTENCY={"REDACT": f"{__name__}.{function}"}):
        sweep()
    assert "the doubt stays" in caplog.text
    assert SECRET not in caplog.text
    assert ("<traceback>" if function == "hide" else "REDACT raised ValueError") in caplog.text


@pytest.mark.django_db
def test_without_such_a_function_tracebacks_reach_their_handlers_whole(caplog):
    logger = logging.getLogger("idempotency")
    try:
        raise ValueError(SECRET)
    except ValueError:
        logger.exception("It failed.")
    assert caplog.records[0].exc_info


def test_a_task_id_cannot_begin_another_line(lines):
    tell(signals.duplicate_replayed, about(task_id="x\nkey_exhausted scope=payroll"))
    [line] = lines()
    assert "\n" not in line.getMessage()
    assert r'task_id="x\nkey_exhausted scope=payroll"' in line.getMessage()
    assert line.idempotency_task_id == "x\nkey_exhausted scope=payroll"
