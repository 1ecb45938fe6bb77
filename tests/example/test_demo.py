"""The demo as a whole, small: real servers, real kills, its exit status and what it leaves."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from notifications.demo.lanes import Lane
from notifications.demo.plan import Fault, Plan
from notifications.demo.receiver import Receiver
from notifications.demo.screen import Screen
from notifications.demo.tally import Tally, is_kept
from notifications.demo.trouble import Trouble
from notifications.demo.workers import Worker
from tests.harness.programs import descendants, program, said_until, state_of, wait_gone
from tests.harness.waiting import wait_until

RECIPIENTS = [f"{number}@example.com" for number in range(40)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [f"{recipient},Invoice,Please pay." for recipient in RECIPIENTS]
    path = tmp_path / "messages.csv"
    path.write_text("\n".join(["recipient,subject,body", *rows, ",Invoice,No recipient"]))
    return path


def demo(file: Path) -> AbstractContextManager["subprocess.Popen[str]"]:
    return program("notifications.demo", "--throwaway", str(file), SEED=1, KILLS=4)


def test_a_small_storm_keeps_our_promise_and_says_so(file):
    with demo(file) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "line 42: recipient: empty" in output
    assert "SEED=1 KILLS=4" in output
    assert re.search(r"kill -9 \d+  while sending #1\n", output)
    assert "5 x kill -9: 4 seen in the body, 0 whatever it did, 1 the broker." in output
    assert "40 mails and 8 webhooks" in output
    for kind, number in ("mails", 40), ("webhooks", 8):
        assert re.search(rf"{kind} sent exactly once +\d+ +{number}\n", output)
        assert re.search(rf"{kind} sent twice or more +[1-9]\d* +0\n", output)
        assert re.search(rf"{kind} lost +\d+ +0\n", output)
    # Two kills and a connection that hangs up, each seen in the body; more where a worker ends by
    # itself.
    assert re.search(r"in doubt, then resolved +- +([3-9]|\d\d) -> 0\n", output)
    assert re.search(r"0@example.com's inbox +\d+ copies +1 copy\n", output)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_storm_it_leaves_no_process_and_no_file(file, number):
    with demo(file) as process:
        said_until(process, "kill -9")
        processes = descendants(process.pid)
        state = state_of(processes)
        assert state.exists()
        process.send_signal(number)
        process.stdout.read()
    assert process.returncode == 128 + number
    assert not state.exists()
    wait_gone(processes)


def test_too_few_messages_for_the_kills_are_refused_in_words(file):
    with program("notifications.demo", "--throwaway", str(file), KILLS=400) as process:
        output, _ = process.communicate()
    assert process.returncode == 1
    assert "48 messages are too few for 200 kills per lane." in output
    assert "Traceback" not in output


def test_a_file_with_webhooks_of_its_own_is_refused_and_nothing_is_posted(tmp_path):
    with Receiver() as receiver:
        file = tmp_path / "messages.csv"
        file.write_text(f"recipient,subject,body\nhttp://{receiver.host}/,Invoice,Please pay.\n")
        with demo(file) as process:
            output, _ = process.communicate()
        assert process.returncode == 1
        assert "The demo posts to its own webhooks only" in output
        assert receiver.seen == 0


def test_a_worker_that_ends_by_itself_is_started_again(tmp_path, capsys):
    file = tmp_path / "log"
    worker = Worker("ours-1", queue="-", log=file, environment={"PATH": os.environ["PATH"]})
    lane = Lane(column=1, screen=Screen(), trouble=Trouble(), numbers={}, workers=[worker])
    lane.open()
    worker.start()
    first = worker.pid
    wait_until(lambda: worker.has_ended, "a worker without settings to end")
    lane.revive()
    assert worker.pid not in (0, first)
    assert "ours-1 has ended by itself, and is back" in capsys.readouterr().out
    worker.kill()
    lane.close()


def test_one_seed_is_one_plan():
    assert Plan.of(RECIPIENTS, seed=7, kills=9) == Plan.of(RECIPIENTS, seed=7, kills=9)
    assert Plan.of(RECIPIENTS, seed=7, kills=9) != Plan.of(RECIPIENTS, seed=8, kills=9)


@pytest.mark.parametrize(
    ("recipients", "kills", "words"),
    [(RECIPIENTS, 0, "KILLS must be 1"), (["a", "a", "b"], 1, "one message per recipient")],
)
def test_a_plan_that_makes_no_sense_is_refused(recipients, kills, words):
    with pytest.raises(ValueError, match=words):
        Plan.of(recipients, seed=1, kills=kills)


@pytest.mark.parametrize("kills", [1, 2, 3, 9, 14, 27])
def test_a_plan_has_the_kills_that_were_asked_for_and_most_of_them_aimed(kills):
    plan = Plan.of(RECIPIENTS, seed=7, kills=kills)
    aimed = [fault for fault in plan.faults.values() if fault is not Fault.HANG_UP]
    assert len(aimed) + len(plan.blind_kills) == kills
    assert len(aimed) >= kills / 2
    assert Fault.HANG_UP in plan.faults.values()
    assert set(plan.copies.values()) == {1, 2, 3, 4}


def test_the_table_counts_what_was_received():
    copies = {"a": 1, "b": 2, "c": 1, "d": 4}
    received = Counter({"a": 2, "b": 2, "c": 1})
    assert Tally.of(received, copies) == Tally(once=1, doubled=2, doubled_alone=1, lost=1)


@pytest.mark.parametrize(
    ("received", "left", "kept"),
    [
        ({"a": 1, "b": 1}, 0, True),
        ({"a": 1}, 0, False),
        ({"a": 1, "b": 2}, 0, False),
        ({"a": 1, "b": 1}, 1, False),
    ],
)
def test_the_promise_is_kept_only_if_all_were_sent_once_and_no_doubt_is_left(received, left, kept):
    assert is_kept(Counter(received), {"a": 1, "b": 1}, left) is kept
