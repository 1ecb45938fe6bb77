"""Short storms: every fault at once on Valkey, a few on each other broker, and what is said."""

import random
import re
import shutil
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from types import SimpleNamespace

import pytest

from project import services
from tests.chaos import __main__ as chaos
from tests.chaos import progress
from tests.chaos.deck import CARDS, cards
from tests.chaos.journal import Journal
from tests.chaos.units import Unit
from tests.chaos.verdict import _cut
from tests.harness.brokers import RabbitMQ
from tests.harness.programs import descendants, program, said_until, state_of, wait_gone

#: Each storm has the machine for itself, as far as that can be had.
pytestmark = pytest.mark.xdist_group("storms")


#: Many times as long as a short storm takes; one that hangs shall not hang all others.
SECONDS = 1800


def storm(**order: object) -> AbstractContextManager["subprocess.Popen[str]"]:
    return program("tests.chaos", **order)


def said(**order: object) -> str:
    """What a storm says whose promises are kept."""
    with storm(**order) as process:
        output, _ = process.communicate(timeout=SECONDS)
    if kept := re.search("are kept in (.+)", output):
        shutil.rmtree(kept[1])  # the output tells the story
    # Said first, so that no breakage counts as noticed by a storm that was not blown.
    assert process.returncode != 2, f"NO VERDICT: {output}"
    assert process.returncode == 0, output
    assert "KEPT: nothing lost, nothing doubled" in output
    return output


def test_every_fault_at_once_loses_nothing_and_doubles_nothing():
    output = said(BROKER="valkey", DELIVERIES=200, KILLS=37, SEED=1)
    for fault in {card.fault for card in CARDS}:
        row = rf"^{fault}( whatever it does|, which is the broker too)? +[1-9]"
        assert re.search(row, output, re.MULTILINE), (fault, output)
    for promise in ("transactional", "HOLD", "RETRY", "ask"):
        [row] = re.findall(rf"^{promise} +(.*)", output, re.MULTILINE)
        intended, done, _, _, _, lost, doubled = (int(n.replace(",", "")) for n in row.split())
        assert intended == done > 0
        assert lost == doubled == 0
    assert "The same again: make chaos BROKER=valkey SEED=1 KILLS=37 DELIVERIES=200" in output


@pytest.mark.parametrize("broker", ["pgmq", "rabbitmq", "sqs"])
def test_a_storm_on_another_broker_keeps_every_promise(broker):
    if broker == "rabbitmq" and not RabbitMQ.program().exists():
        pytest.skip("RabbitMQ is not installed: apt-get install rabbitmq-server")
    said(BROKER=broker, DELIVERIES=100, KILLS=4, SEED=2)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_stopped_in_the_middle_it_leaves_no_process_and_no_data():
    with storm(BROKER="valkey", MINUTES=5, SEED=1) as process:
        said_until(process, "deliveries")
        processes = descendants(process.pid)
        state = state_of(processes).parent
        assert state.exists()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 128 + signal.SIGINT
    assert "No process and no data are left." in rest
    assert not state.exists()
    wait_gone(processes)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ({"BROKER": "kafka"}, "BROKER must be valkey, rabbitmq, pgmq or sqs, not 'kafka'."),
        ({"MINUTES": "soon"}, "MINUTES must be a number, not 'soon'."),
        ({"MINUTES": "-1"}, "must be positive numbers"),
    ],
)
def test_a_storm_that_cannot_be_blown_says_why_and_is_no_failure_of_the_app(order, words):
    with storm(**order) as process:
        output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 2, output
    assert words in output
    assert "Traceback" not in output


def test_an_error_of_the_storm_itself_is_no_broken_promise(monkeypatch, capsys):
    def fails(order):
        raise LookupError("a fault of its own")

    monkeypatch.setattr(chaos, "_run", fails)
    monkeypatch.setattr(services, "end_in_order", lambda: None)
    assert chaos.main() == 2
    assert "a fault of its own" in capsys.readouterr().err


def test_a_storm_that_is_over_is_waited_for_while_less_and_less_is_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    left, waits = progress.Progress(), []
    for less in (5, 4, 3, 3, 4):  # the last two are none
        now[0] += 0.9 * progress.PATIENCE
        waits.append(not left.has_ended(less))
    assert waits == [True, True, True, True, False]


def test_one_seed_is_one_order_of_faults_and_a_deck_holds_each():
    first, second = cards(random.Random(7)), cards(random.Random(7))
    drawn = [next(first) for _ in range(2 * CARDS.total())]
    assert drawn == [next(second) for _ in drawn]
    assert {card.fault for card in drawn[: CARDS.total()]} == {card.fault for card in CARDS}


def test_a_chain_whose_next_message_the_broker_took_and_lost_is_not_cut_by_us(tmp_path):
    chain = Unit("chain-1", "chain", ("transactional", "transactional"), 2, True, False)
    seen = [
        ("D", "first", "chain-1.0", "root", 1),
        ("P", "second", "chain-1.1", "root"),
        ("E", "first", "chain-1.0", "write", "SUCCESS", 1),
    ]

    def cut(lines):
        written = "".join("\t".join(map(str, line)) + "\n" for line in lines)
        (tmp_path / "journal").write_text(written)
        journal = Journal(tmp_path, lambda *_: None)
        journal.follow()
        return _cut([chain], journal)

    assert cut(seen) == []  # published, and given to no worker
    assert cut([seen[0], seen[2]]) == ["chain-1.1"]  # never published
