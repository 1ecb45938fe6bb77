"""The protocol as a model that spin explores in full: every interleaving of two workers, a broker
that delivers at least once, an operator and the sweeper, with deaths, repeats and lapses.

Each breakage that is compiled in must be found: a model that finds nothing says nothing.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(
    not (shutil.which("spin") and shutil.which("gcc")), reason="apt-get install spin gcc libc6-dev"
)

#: What may go wrong how often. Nothing is lost: under weak fairness, which explores far more
#: states for each, so one budget after the other; one effect: all at once.
RELEASED_TO_BE_REPEATED = {"ON_DOUBT": "RETRY", "KILLS": 1, "RELEASES": 1, "FORGETS": 1}
LEASED = {
    "nothing_is_lost": [
        {"KILLS": 1, "LAPSES": 1},
        {"KILLS": 1, "RAISES": 1},
        {"REPEATS": 1, "RAISES": 1, "LAPSES": 1},
        {"ON_DOUBT": "RETRY", "RAISES": 1, "FORGETS": 1},
        {"ON_DOUBT": "ASK", "KILLS": 1, "RAISES": 1},
        {"KILLS": 1, "GIVES_UP": 1},
        {"KILLS": 1, "RELEASES": 1},
        {"KILLS": 1, "ALLOWS": 1},
        {"KILLS": 1, "PURGES": 1},
    ],
    "one_effect": [
        {"KILLS": 1, "LAPSES": 1, "RELEASES": 1},
        {"KILLS": 1, "RAISES": 1, "ALLOWS": 1},
        {"KILLS": 1, "REPEATS": 1, "PURGES": 1},
        {"KILLS": 1, "REPEATS": 1, "LAPSES": 1},
        {"KILLS": 1, "REPEATS": 1, "RAISES": 1},
        {"ON_DOUBT": "RETRY", "KILLS": 1, "RAISES": 1, "LAPSES": 1, "FORGETS": 1},
        RELEASED_TO_BE_REPEATED,
        {"ON_DOUBT": "ASK", "KILLS": 1, "RAISES": 1},
    ],
}
TRANSACTIONAL = {
    "nothing_is_lost": [
        {"KILLS": 1, "RAISES": 1, "SILENT": 1},
        {"REPEATS": 1, "RAISES": 1, "SILENT": 1},
        {"KILLS": 1, "REPEATS": 1, "SILENT": 1, "NO_LOCKS": 1},
    ],
    "one_effect": [{"KILLS": 1, "REPEATS": 1, "RAISES": 1, "SILENT": 1}],
}
STARTS = {
    "nothing_is_lost": [{"KILLS": 1, "RAISES": 1}, {"KILLS": 1, "REPEATS": 1}, {"POISON": 1}],
    "one_effect": [{"KILLS": 1, "REPEATS": 1, "RAISES": 1}],
}
MODELS = {"leased": LEASED, "transactional": TRANSACTIONAL, "starts": STARTS}


def explore(directory, model, promise, **given):
    """Explore a model: (violation or "", number of states)."""
    for source in HERE.glob("*.pml"):
        shutil.copy(source, directory)
    wrongs = ("KILLS", "REPEATS", "RAISES", "LAPSES", "SILENT", "FORGETS", "GIVES_UP")
    wrongs += ("RELEASES", "ALLOWS", "PURGES")
    budget = dict.fromkeys(wrongs, 0) | given
    run(["spin", "-a", *(f"-D{name}={value}" for name, value in budget.items()), model], directory)
    options = ["-O1", "-w", "-DMEMLIM=4096"]  # most are compiled for longer than they run
    options += ["-DNFAIR=4"] if promise == "nothing_is_lost" else ["-DSAFETY", "-DNOCLAIM"]
    run(["gcc", *options, "-o", "pan", "pan.c"], directory)
    how = ["-a", "-f", "-N", promise] if promise == "nothing_is_lost" else []
    said = run(["./pan", "-m500000", *how], directory)
    assert not re.search(r"violated \((free_tag|claim)<", said), "a bound of the model is too small"
    violation = re.search(r"pan:1: (.*?) \(at depth", said)
    assert violation or "max search depth too small" not in said
    states = int(re.search(r"(\d+) states, stored", said)[1])
    return violation[1] if violation else "", states


def run(command, directory):
    ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said
    return said


def named(budget):
    return "-".join(value if isinstance(value, str) else name for name, value in budget.items())


@pytest.mark.parametrize(
    ("model", "promise", "budget"),
    [
        pytest.param(model, promise, budget, id=f"{model}-{promise}-{named(budget)}")
        for model, promises in MODELS.items()
        for promise, budgets in promises.items()
        for budget in budgets
    ],
)
def test_the_protocol_keeps_its_promises(model, promise, budget, tmp_path, record_property):
    violation, states = explore(tmp_path, f"{model}.pml", promise, **budget)
    assert violation == ""
    record_property("explored", f"{model}.pml, {promise}, {named(budget)}: {states:,} states")


@pytest.mark.parametrize(
    ("breakage", "promise", "budget"),
    [
        ("REPEATS_BLINDLY", "one_effect", {"KILLS": 1}),
        ("ERROR_MEANS_NO", "one_effect", {"RAISES": 1}),
        ("FORGETS_TO_MARK", "one_effect", {"KILLS": 1}),
        ("MARKS_WITHOUT_LEASE", "one_effect", {"REPEATS": 1, "LAPSES": 1}),
        ("ACKNOWLEDGES_EARLY", "nothing_is_lost", {"KILLS": 1}),
        ("ACKNOWLEDGES_FIRST", "nothing_is_lost", {"KILLS": 1, "RAISES": 1}),
        ("DROPS_WHAT_IS_BUSY", "nothing_is_lost", {"REPEATS": 1, "KILLS": 1}),
        ("DELETES_FIRST", "nothing_is_lost", {"KILLS": 1, "RAISES": 1}),
        ("DELETES_AFTERWARDS", "nothing_is_lost", {"KILLS": 1, "RAISES": 1}),
        ("SETTLES_WITHOUT_TOKEN", "one_effect", {"REPEATS": 1, "LAPSES": 1, "RAISES": 1}),
        ("NEW_PROVIDER_KEY", "one_effect", {"ON_DOUBT": "RETRY", "RAISES": 1}),
        ("WINDOW_SLIDES", "one_effect", {"ON_DOUBT": "RETRY", "RAISES": 1, "FORGETS": 1}),
        ("FORGETS_THE_LEASE", "one_effect", {"ON_DOUBT": "RETRY", "RAISES": 1, "FORGETS": 1}),
        ("REPEATS_BLINDLY", "one_effect", {"ON_DOUBT": "RETRY", "RAISES": 1, "FORGETS": 1}),
        ("ASKS_TOO_EARLY", "one_effect", {"ON_DOUBT": "ASK", "RAISES": 1}),
        ("GIVES_UP_UNKEPT", "nothing_is_lost", {"KILLS": 1, "GIVES_UP": 1}),
        ("RELEASES_TO_BE_REPEATED", "one_effect", {"KILLS": 1, "RELEASES": 1}),
        ("FORGETS_AT_A_RELEASE", "one_effect", RELEASED_TO_BE_REPEATED),
        ("KEEPS_THE_BEGINNING", "nothing_is_lost", {"ALLOWS": 1}),
        ("FORGETS_TOO_EARLY", "one_effect", {"REPEATS": 1, "PURGES": 1}),
        ("PURGES_WHAT_RUNS", "one_effect", {"KILLS": 1, "PURGES": 1}),
        # Not breakages but limits: see the README.
        ("HURRIED_OPERATOR", "one_effect", {"LAPSES": 1}),
        ("ACTS_WITHOUT_LEASE", "one_effect", {"ON_DOUBT": "ASK", "KILLS": 1, "LAPSES": 1}),
    ],
)
def test_a_broken_leased_protocol_is_found(breakage, promise, budget, tmp_path):
    violation, _ = explore(tmp_path, "leased.pml", promise, **budget, **{breakage: 1})
    assert violation


@pytest.mark.parametrize(
    ("breakage", "promise", "budget"),
    [
        ("TAKES_THE_LOCK_FOR_TRUTH", "one_effect", {"REPEATS": 1, "NO_LOCKS": 1}),
        ("ABSENT_IS_PROOF", "nothing_is_lost", {"SILENT": 1}),
        ("ACKNOWLEDGES_EARLY", "nothing_is_lost", {"KILLS": 1}),
        ("DROPS_WHAT_IS_BUSY", "nothing_is_lost", {"REPEATS": 1, "KILLS": 1}),
    ],
)
def test_a_broken_transactional_protocol_is_found(breakage, promise, budget, tmp_path):
    violation, _ = explore(tmp_path, "transactional.pml", promise, **budget, **{breakage: 1})
    assert violation


@pytest.mark.parametrize(
    ("breakage", "promise", "budget"),
    [
        ("COUNTS_NO_DEATH", "nothing_is_lost", {"POISON": 1}),
        ("HAS_NO_GRACE", "one_effect", {"KILLS": 1, "REPEATS": 1}),
        ("LEAVES_ITS_NOTE", "one_effect", {"KILLS": 1, "RAISES": 1}),
    ],
)
def test_a_broken_protocol_of_starts_is_found(breakage, promise, budget, tmp_path):
    violation, _ = explore(tmp_path, "starts.pml", promise, **budget, **{breakage: 1})
    assert violation
