"""The docs as a site: built as ``make docs`` builds it, and needing nothing from a network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import idempotency
from tests.docs.blocks import ROOT

pytestmark = pytest.mark.xdist_group("site")  # built once

DOCS = ROOT / "docs"
#: An element that fetches, and where from.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source)[^>]*\ssrc=\"([^\"]+)\"|<link[^>]*\shref=\"([^\"]+)\""
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where the site is, and the warnings."""
    output = tmp_path_factory.mktemp("site")
    [recipe] = re.findall(r"-m (sphinx .*) docs docs/_build", (ROOT / "Makefile").read_text())
    assert " -W " in recipe, "A warning has to be an error."
    command = [sys.executable, "-m", *recipe.split(), "-d", f"{output}.doctrees", "docs", output]
    sphinx = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert bool(sphinx.returncode) is bool(sphinx.stderr)
    return output, sphinx.stderr


@pytest.fixture(scope="module")
def site(built: tuple[Path, str]) -> Path:
    return built[0]


def test_every_page_is_there_without_a_warning(built):
    """An orphan, a dead link, a dead anchor and a name without a target are warnings."""
    site, warnings = built
    assert warnings == ""
    pages = {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md")}
    html = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    assert html - pages == {Path("genindex"), Path("search")}
    assert pages <= html


def test_nothing_is_fetched_from_elsewhere(site):
    sources = {
        (page.name, source)
        for page in site.rglob("*.html")
        for pair in FETCHED.findall(page.read_text())
        for source in pair
        if source
    }
    sources |= {
        (sheet.name, source)
        for sheet in site.rglob("*.css")
        for source in re.findall(r"url\([\"']?([^\"')]+)|@import [\"']([^\"']+)", sheet.read_text())
        for source in source
    }
    assert {each for each in sources if re.match(r"(https?:)?//", each[1])} == set()


def test_every_public_name_is_described(site):
    page = (site / "reference/api.html").read_text()
    described = set(re.findall(r'id="idempotency\.(\w+)"', page))
    assert set(idempotency.__all__) == described


def test_an_exception_that_a_docstring_names_leads_to_its_place(site):
    page = (site / "reference/api.html").read_text()
    assert 'href="errors.html#alreadyrunning"' in page
    assert 'id="alreadyrunning"' in (site / "reference/errors.html").read_text()
