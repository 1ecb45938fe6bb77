"""The benchmarks end, and write what they say they write. Their figures are no test's business."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from math import exp
from pathlib import Path
from xml.etree import ElementTree

import pytest

from idempotency import idempotent
from tests.benchmarks import adapters, peers
from tests.benchmarks.busy import Answer, reckoned
from tests.benchmarks.drawing import WIDTH, bars, figure, flames
from tests.benchmarks.growth import _images
from tests.benchmarks.others import Other, cannot_part, does_it_once
from tests.benchmarks.peering import built
from tests.benchmarks.profiling import Profile, layer_of
from tests.benchmarks.rounds import Effort, Rounds, Subject
from tests.benchmarks.subjects import BARE, CONTROL
from tests.benchmarks.writing import Findings
from tests.execution.bodies import effect
from tests.harness.processes import ROOT, database_url

DOCS = ROOT / "docs/benchmarks"
PARTS = sorted(page.stem for page in DOCS.glob("*.md") if page.stem != "index")
MARKS = re.compile(r"(<!-- measured: (\w+) -->\n)(.*?)(<!-- end of measured)", re.DOTALL)


def blocks_of(page: Path) -> dict[str, str]:
    return {name: text for _, name, text, _ in MARKS.findall(page.read_text())}


def drawings_of(page: Path) -> list[str]:
    return re.findall(r"\(([\w-]+\.svg)\)", page.read_text())


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """The pages as they are before anything was measured."""
    pages = Path(shutil.copytree(DOCS, tmp_path / "pages"))
    for page in pages.glob("*.md"):
        page.write_text(MARKS.sub(r"\1\4", page.read_text()))
    for drawing in pages.glob("*.svg"):
        drawing.unlink()
    return pages


@pytest.mark.django_db
def test_each_part_writes_all_of_its_page_and_draws_what_the_page_shows(pages):
    parts = ["calls", "growth"]
    size = ["--rounds", "1", "--calls", "1", "--rows", "0", "1000"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *parts, *size, "--docs", pages],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": database_url()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for page in (pages / f"{part}.md" for part in parts):
        written = blocks_of(page)
        assert {name for name, text in written.items() if not text} <= {"warnings"}
        assert all(text in done.stdout for text in written["made"].splitlines())
        for name in drawings_of(page):
            assert ElementTree.parse(pages / name).getroot().tag.endswith("svg")  # noqa: S314 ours
    headlines = blocks_of(pages / "index.md")
    assert {name for name, text in headlines.items() if text} == set(parts)


@pytest.mark.parametrize("part", PARTS)
def test_a_page_has_a_place_for_each_block_of_its_part_and_for_no_other(part):
    source = (ROOT / f"tests/benchmarks/{part}.py").read_text()
    blocks = set(re.findall(r'blocks\["(\w+)"\]', source)) | {"made", "warnings"}
    assert set(blocks_of(DOCS / f"{part}.md")) == blocks
    assert set(blocks_of(DOCS / "index.md")) == set(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_a_page_shows_what_was_measured(part):
    page = DOCS / f"{part}.md"
    assert {name for name, text in blocks_of(page).items() if not text} <= {"warnings"}
    for name in drawings_of(page):
        assert (DOCS / name).exists(), f"{page.name} shows {name}"


def test_what_has_no_place_in_its_page_is_refused(pages):
    with pytest.raises(ValueError, match="0 places for 'unheard'"):
        Findings("calls", blocks={"unheard": "of"}).write(pages)


def test_a_duplicate_comes_after_the_call_that_it_repeats():
    made: list[tuple[str, int]] = []
    subjects = [
        Subject("again", lambda number: made.append(("again", number)), "first", again=True),
        Subject("first", lambda number: made.append(("first", number)), "first"),
    ]
    Rounds(subjects, rounds=3, calls=4)
    assert len(made) == 2 * (1 + 3 * 4)
    for before, after in zip(made[::2], made[1::2], strict=True):
        assert (before[0], after[0]) == ("first", "again")
        assert before[1] == after[1]


def test_a_ratio_is_of_times_of_the_same_round():
    """A machine that was slow for a while strikes both."""
    rounds = Rounds([Subject("ours", int, "bare"), Subject("bare", int, "bare")], rounds=1, calls=1)
    rounds.times = {"bare": [1.0, 1.0, 9.0], "ours": [2.0, 20.0, 18.0]}
    assert rounds.ratio("ours") == 2
    assert rounds.spread("bare") == (1, 1)


@pytest.mark.django_db
def test_another_that_does_the_job_twice_is_not_measured():
    with pytest.raises(AssertionError, match="not done once"):
        does_it_once(lambda order: effect(), lambda order: effect())


@pytest.mark.django_db(transaction=True)
def test_no_key_that_is_measured_beside_the_others_has_been_done_before(monkeypatch):
    effect()  # as another part leaves in its own database
    monkeypatch.setattr(peers, "PYTHON", Path(sys.executable))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.benchmarks.settings")
    monkeypatch.setenv("DATABASE_URL", database_url())
    found = peers.measure(print, Effort(rounds=1, calls=3, seconds=1))
    assert "| this app, Transactional |" in found.blocks["table"]
    assert "this app" not in "".join(found.warnings)


def effect_alone(order: int) -> None:
    """Committed by itself, as for those whose record is elsewhere."""
    adapters.one_statement(order)


def in_one_commit(order: int) -> None:
    run = idempotent(key="order", scope="test.killed")(lambda order: adapters.one_statement(order))
    run(order)


# Of a fork beside threads, since Python 3.12: the child does nothing but die.
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.django_db(transaction=True)
class TestAnotherThatIsSaidToCommitOnce:
    def test_leaves_nothing_when_it_is_killed_and_does_the_job_again(self):
        cannot_part(in_one_commit, in_one_commit)

    def test_is_not_measured_if_its_effect_outlives_it(self):
        with pytest.raises(AssertionError, match="outlived its record"):
            cannot_part(effect_alone, effect_alone)

    def test_is_not_measured_if_its_job_is_lost(self):
        with pytest.raises(AssertionError, match="the job was lost"):
            cannot_part(in_one_commit, lambda order: None)


def test_another_that_needs_a_newer_python_is_skipped_and_its_row_says_why():
    other = Other("theirs", "theirs", "one commit", "cannot part", "nothing", dict, python=(9, 1))
    why = built(other)
    assert why == "It needs Python 9.1 or newer, and none was found"
    bare = {"ratio": 1, "microseconds": 1, "cpu": 0}
    answer = {"skipped": {"theirs": why}, "releases": {}, "rounds": 1}
    answer["subjects"] = {BARE: bare, CONTROL: bare}
    assert f"| theirs | skipped: {why} |" in peers.table_of(answer, {"theirs": other})


def test_as_many_pages_are_imaged_as_records_touch():
    """The sum that the formula stands for: each leaf, but those that no record has touched."""
    leaves, records = 1000, 700
    touched = leaves * (1 - (1 - 1 / leaves) ** records)
    assert _images(leaves, records) == pytest.approx(touched / records, rel=0.01)
    assert _images(1, 10_000) == pytest.approx(1 / 10_000 * (1 - exp(-10_000)))


def test_a_bar_is_as_long_as_its_value():
    drawing = ElementTree.fromstring(bars("t", ["one"], [("a", [2.0]), ("b", [0.5])]))  # noqa: S314 ours
    lengths = [float(each.get("width")) for each in drawing.iter() if each.get("height") == "14"]
    assert lengths[0] == pytest.approx(4 * lengths[1], rel=0.01)


def test_a_frame_is_as_wide_as_it_was_often_seen_and_stands_on_who_called_it():
    stacks = {(("a", "run"), ("b", "body")): 1, (("a", "run"),): 3, (("c", "rest"),): 4}
    drawing = ElementTree.fromstring(flames("t", stacks, lambda stack: stack[-1][0]))  # noqa: S314 ours
    frames = [each for each in drawing.iter() if each.get("fill-opacity")]
    run, body, rest = ({name: float(each.get(name)) for name in "xy"} for each in frames)
    widths = [float(each.get("width")) + 0.5 for each in frames]
    assert widths == pytest.approx([WIDTH / 2 - 20, WIDTH / 8 - 5, WIDTH / 2 - 20], rel=0.01)
    assert (run["x"], rest["x"]) == (body["x"], WIDTH / 2)
    assert body["y"] < run["y"] == rest["y"]


TRACER, KEY, JSON, WAIT = (
    ("celery.app.trace", "trace_task"),
    ("idempotency.keys", "key_for"),
    ("json.encoder", "JSONEncoder.encode"),
    ("psycopg.connection", "Connection.wait"),
)


@pytest.mark.parametrize(
    ("stack", "layer"),
    [
        ((TRACER,), "Celery"),
        ((TRACER, KEY, JSON), "this app"),
        ((TRACER, KEY, WAIT), "psycopg, sending and receiving"),
        ((TRACER, KEY, WAIT, ("psycopg._queries", "PostgresQuery.convert")), "psycopg"),
    ],
)
def test_the_innermost_layer_has_the_time_and_python_is_none(stack, layer):
    assert layer_of(stack) == layer


def test_the_layers_of_a_call_are_together_what_it_took():
    seen = Counter({(TRACER,): 1, (TRACER, KEY, JSON): 2, (TRACER, KEY, WAIT): 1})
    layers = Profile(walls=[0.003], cpus=[0.001], stacks=seen).layers()
    assert sum(layers.values()) == pytest.approx(3000)
    assert (layers["waiting for PostgreSQL"], layers["this app"]) == pytest.approx((2000, 500))


@pytest.mark.parametrize(
    ("processes", "cores", "turns"),
    [(1, 2, (1, 1)), (2, 2, (1, 1)), (16, 2, (4.5, 8)), (16, 8, (1.5, 2)), (16, 16, (1, 1))],
)
def test_who_asks_waits_for_the_turns_of_those_who_share_his_core(processes, cores, turns):
    alone = Answer(wall=9, asking=0.7, answering=0.3)
    assert reckoned(alone, processes, cores) == pytest.approx(turns)


@pytest.mark.parametrize(
    ("value", "said"), [(0.0321, "0.032"), (1.234, "1.23"), (12.34, "12.3"), (4567.8, "4,568")]
)
def test_a_figure_has_three_digits(value, said):
    assert figure(value) == said
