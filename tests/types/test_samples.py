"""Both checkers accept what users write rightly, and refuse each mistake, on its line."""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent
ROOT = SAMPLES.parents[1]

Refused = dict[tuple[str, int], set[str]]


def expected(checker: str) -> Refused:
    """What a checker must say of each marked line. (Pyright's rules, and no code of mypy's, are
    called ``report...``.)"""
    marked: Refused = {}
    for sample in SAMPLES.glob("*.py"):
        for number, line in enumerate(sample.read_text().splitlines(), start=1):
            if mark := re.search(r"  # refused: ([\w, -]+)$", line):
                said = set(mark[1].split(", "))
                rules = {each for each in said if each.startswith("report")}
                marked[sample.name, number] = rules if checker == "pyright" else said - rules
    return marked


def run(*command: str) -> str:
    files = [str(SAMPLES / "right.py"), str(SAMPLES / "wrong.py")]
    ran = subprocess.run(
        [sys.executable, "-m", *command, *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr  # there were findings
    return ran.stdout


def mypy() -> Refused:
    refused: Refused = defaultdict(set)
    for line in run("mypy", "--strict", "--output=json").splitlines():
        found = json.loads(line)
        if found["severity"] == "error":
            refused[Path(found["file"]).name, found["line"]].add(found["code"])
    return refused


def pyright() -> Refused:
    refused: Refused = defaultdict(set)
    said = run("pyright", "--outputjson", "--pythonpath", sys.executable)
    for found in json.loads(said)["generalDiagnostics"]:
        line = found["range"]["start"]["line"] + 1
        refused[Path(found["file"]).name, line].add(found["rule"])
    return refused


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_checker_refuses_the_marked_lines_and_no_other(checker):
    marked = expected(checker.__name__)
    assert len(marked) > 50
    assert checker() == marked
