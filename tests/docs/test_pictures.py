"""The pictures of README and docs: there, described, and small. ``make pictures`` takes those of
the admin, ``make bench`` draws those of the figures."""

import re

from tests.docs.blocks import ROOT

PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
SHOWN = [
    (page, told, (page.parent / target).resolve())
    for page in PAGES
    for told, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text())
]
TAKEN = [*(ROOT / "docs/_static").glob("*.png"), *(ROOT / "docs/benchmarks").glob("*.svg")]


def test_what_a_page_shows_is_there_and_described():
    assert SHOWN
    for page, told, file in SHOWN:
        assert file in TAKEN, page
        assert len(told) > 40, "Say what one sees: some hear it."


def test_what_was_taken_is_shown_and_small():
    assert {file for _, _, file in SHOWN} == set(TAKEN)
    for file in TAKEN:
        assert file.stat().st_size < 150_000, file
