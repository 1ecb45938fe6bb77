"""Each check fires when the configuration is wrong, is silent when it is right, can be silenced."""

from datetime import timedelta

import pytest
from django.core import checks
from django.db import connections
from django.test import override_settings

from idempotency import idempotent, jobs


def found(number=None):
    """The ids, or the one message with an id, of what our checks say of this project now."""
    messages = checks.run_checks(tags=["idempotency"])
    if number is None:
        return [message.id for message in messages]
    [message] = [message for message in messages if message.id == f"idempotency.{number}"]
    assert message.hint
    return message.msg


def test_nothing_is_said_of_a_project_that_is_right():
    assert found() == []


@pytest.mark.parametrize(
    ("given", "number", "said"),
    [
        ([], "E001", "must be a dict, not list"),
        ({"LEESE": timedelta(1)}, "E002", "'LEESE'"),
        ({"BACKEND": "x"}, "E002", "drf-idempotency"),
        ({"LEASE": 10}, "E003", "a positive timedelta"),
        ({"DATABASE": "jobs"}, "E004", "'jobs', which is no database alias"),
        ({"DATABASE": "sqlite"}, "W012", "one job writes at a time"),
    ],
)
def test_wrong_settings_are_reported_and_stop_no_command(given, number, said):
    with override_settings(IDEMPOTENCY=given):
        assert said in found(number)
        assert found() == [f"idempotency.{number}"]


def test_a_database_without_a_storage_is_an_error(monkeypatch):
    monkeypatch.setattr(connections["default"], "vendor", "oracle")
    assert "is oracle: no call" in found("E005")


@pytest.mark.parametrize(("mode", "said"), [("IMMEDIATE", False), (None, True), ("deferred", True)])
def test_sqlite_s_transactions_have_to_begin_as_writers(mode, said, monkeypatch):
    options = connections["sqlite"].settings_dict["OPTIONS"]
    monkeypatch.setitem(options, "transaction_mode", mode)
    with override_settings(IDEMPOTENCY={"DATABASE": "sqlite"}):
        assert ("do not begin as writers" in found("W012")) is said


def test_two_functions_with_one_scope_are_an_error(monkeypatch):
    monkeypatch.setattr(jobs, "jobs", {})
    monkeypatch.setattr(jobs, "clashes", set())

    def declare(name):
        def function(order_id):
            return order_id

        function.__qualname__ = name
        idempotent(key="order_id", scope="send")(function)

    declare("mail")
    declare("mail")  # its module was loaded again
    assert found() == []
    declare("webhook")
    assert "test_checks.mail and " in found("E007")
    assert "both have the scope 'send'" in found("E007")


@override_settings(IDEMPOTENCY={"DATABASE": "sqlite"}, SILENCED_SYSTEM_CHECKS=["idempotency.W012"])
def test_a_check_can_be_silenced():
    [message] = checks.run_checks(tags=["idempotency"])
    assert message.is_silenced()
