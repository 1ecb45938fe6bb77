"""Every code block of the README runs, and does what the text around it says."""

import itertools
import re
import sys
import types

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.test import override_settings
from django.utils import timezone

from idempotency.models import IdempotencyRecord
from tests.docs.blocks import ROOT, python_blocks
from tests.execution.bodies import effects
from tests.jobs.models import Effect

README = ROOT / "README.md"
TEXT = README.read_text()
BLOCKS = python_blocks(README)
#: They begin with the name of their file: `tests/acceptance/test_strangers_project.py` runs them.
FILES = [code for code in BLOCKS if code.startswith("# ")]

pytestmark = pytest.mark.django_db(transaction=True)


#: Celery knows a task of a block by one name.
numbers = itertools.count()


class Shipment:
    """The reader's own model."""

    class objects:  # noqa: N801 as Django calls it
        @staticmethod
        def create(order_id):
            return Effect.objects.create(key=str(order_id), note="effect", pid=1)

        @staticmethod
        def filter(order_id):
            return Effect.objects.filter(key=str(order_id))


@pytest.fixture
def block(monkeypatch):
    """Run the block that holds a text; its names."""
    shop = types.ModuleType("shop.models")
    shop.Shipment = Shipment
    monkeypatch.setitem(sys.modules, "shop", types.ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.models", shop)

    def run(text):
        [code] = [block for block in BLOCKS if text in block]
        names = {"__name__": f"readme{next(numbers)}"}
        exec(compile(code, README.name, "exec"), names)  # noqa: S102 this is what the test is for
        return names

    return run


def test_the_first_block_ships_once(block):
    ship = block("def ship")["ship"]
    assert ship(7) == ship(order_id=7)
    assert effects() == 1


def test_a_key_of_two_paths(block):
    book = block("def book")["book"]
    for invoice in ({"number": "a"}, {"number": "a"}, {"number": "b"}):
        book(1, invoice)
    assert IdempotencyRecord.objects.count() == 2


@override_settings(EMAIL_BACKEND="tests.docs.test_readme.Hanging")
def test_a_mail_in_doubt_is_resolved(block):
    send_invoice = block("def send_invoice")["send_invoice"]
    with pytest.raises(ConnectionResetError):
        send_invoice(7, "anna@example.com")
    assert IdempotencyRecord.objects.get().state == "in_doubt"
    block('Verdict.happened(), reason="seen')
    assert send_invoice(7, "anna@example.com") is None
    assert len(mail.outbox) == 1


class Hanging(EmailBackend):
    """A mail server that hangs up after it has accepted."""

    def send_messages(self, messages):
        super().send_messages(messages)
        raise ConnectionResetError


def test_an_unclear_charge_is_repeated_with_one_key(block):
    charge = block("def charge")["charge"]
    keys = []

    def provider(order_id, idempotency_key):
        keys.append(idempotency_key)
        if len(keys) == 1:
            raise TimeoutError
        return "receipt"

    with pytest.raises(TimeoutError):
        charge(7, provider)
    assert charge(7, provider) == "receipt"
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_an_unclear_payment_is_asked_about(block):
    pay = block("def ask")["pay"]
    with pytest.raises(TimeoutError):
        pay(7)
    IdempotencyRecord.objects.update(lease_expires_at=timezone.now())
    assert pay(7) == "receipt 7"


def test_execute_in_a_view(block):
    receive = block("def receive")["receive"]
    assert receive({"id": "evt_1", "lines": [1, 2]}) == 2
    assert receive({"id": "evt_1", "lines": []}) == 2


@pytest.mark.django_db(transaction=False)
def test_the_reader_s_own_tests_pass(block, monkeypatch):
    shop = types.ModuleType("shop.tasks")
    shop.ship = block("def ship")["ship"]
    monkeypatch.setitem(sys.modules, "shop.tasks", shop)
    tests = block("def test_a_redelivered_order_ships_once")
    tests["test_a_redelivered_order_ships_once"](None)
    tests["test_an_order_whose_worker_died_ships_once"](None)


def test_every_block_is_run_by_a_test_above_or_by_the_stranger():
    names = (
        "def ship",
        "def book",
        "def send_invoice",
        'Verdict.happened(), reason="seen',
        "def charge",
        "def ask",
        "def receive",
        "def test_a_redelivered_order_ships_once",
    )
    left = [code for code in BLOCKS if not any(name in code for name in names)]
    assert left == FILES


def test_every_make_target_is_there():
    makefile = README.with_name("Makefile").read_text()
    targets = set(re.findall(r"^make (\w+)", TEXT, re.MULTILINE))
    assert {"demo", "test", "serve", "mutants"} <= targets
    assert all(re.search(rf"^{target}:.*## ", makefile, re.MULTILINE) for target in targets)


def test_the_table_of_demo_results_names_its_command():
    shown = TEXT.partition("<!-- demo -->")[2].partition("<!-- /demo -->")[0]
    assert re.search(r"\$ make demo( [A-Z]+=\d+)*\n", shown)
    assert "sent exactly once" in shown
