"""The pages of reference say what the code says."""

import re
from pathlib import Path

import pytest
from django.core.management import load_command_class
from django.core.management.base import BaseCommand

from idempotency import testing
from idempotency.checks.findings import PAGE, finding
from tests.docs import (
    bad_input_page,
    errors_page,
    guarantees_page,
    settings_page,
    signals_page,
    states_page,
    storms_page,
)
from tests.mutants.storms import STORMS

ROOT = Path(__file__).resolve().parents[2]
INHERITED = {
    flag
    for action in BaseCommand().create_parser("manage.py", "any")._actions
    for flag in action.option_strings
} | {"--database"}


@pytest.mark.parametrize(
    "generated",
    [
        bad_input_page,
        errors_page,
        guarantees_page,
        settings_page,
        signals_page,
        states_page,
        storms_page,
    ],
)
def test_a_page_that_is_made_of_the_code_is_that_of_the_code(generated):
    assert generated.PAGE.read_text() == generated.page(), "Write it again: python -m tests.docs"


def test_each_sabotage_names_a_test_and_a_storm_that_report_it():
    known = storms_page.KNOWN
    for each in storms_page.SABOTAGES:
        assert not known[each.suite].tests.startswith(STORMS)
        assert not known[each.suite].is_long
        assert known[each.storm].tests.startswith(STORMS)


def test_each_finding_has_its_place_on_the_page():
    sources = "".join(path.read_text() for path in ROOT.glob("idempotency/**/*.py"))
    numbers = set(re.findall(r'finding\(\s*"([EIW]\d{3})"', sources))
    numbers |= {"E001", "E002", "E003"}  # numbered in conf.py
    headings = re.findall(r"^## idempotency\.(.*)$", (ROOT / PAGE).read_text(), re.M)
    assert headings == sorted(numbers)


def test_the_anchor_in_a_hint_is_that_of_the_heading():
    anchors = {finding(number, "", "").hint.partition("#")[2] for number in ("E001", "W020")}
    assert anchors <= _anchors(ROOT / PAGE)


def test_each_command_and_each_option_of_it_has_its_row():
    page = (ROOT / "docs/reference/commands.md").read_text()
    rows = {
        row[1]: set(re.findall(r"`(--[\w-]+)`", row[2]))
        for row in re.finditer(r"^\| `(idempotency_\w+)[^`]*` \|(.*)$", page, re.M)
    }
    commands = {path.stem for path in ROOT.glob("idempotency/management/commands/idem*.py")}
    assert rows.keys() == commands
    for name in commands:
        parser = load_command_class("idempotency", name).create_parser("manage.py", name)
        options = {flag for action in parser._actions for flag in action.option_strings}
        assert rows[name] == options - INHERITED, name


def test_each_name_of_the_test_kit_is_on_its_page():
    page = (ROOT / "docs/how-to/test-your-tasks.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", page.partition("## All names")[2], re.M)
    assert sorted(re.findall(r"`(\w+)", " ".join(rows))) == testing.__all__


def test_every_link_between_pages_leads_somewhere():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    dead = []
    for page in pages:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            name, _, anchor = target.partition("#")
            if "://" in target:
                continue
            file = page.parent / name if name else page
            if not file.exists() or (anchor and anchor not in _anchors(file)):
                dead.append(f"{page.relative_to(ROOT)}: {target}")
    assert not dead


def test_the_readme_and_the_entrance_lead_to_the_same_pages():
    tables = [
        (ROOT / page).read_text().partition("| You want to | Read |")[2].partition("\n\n")[0]
        for page in ("README.md", "docs/index.md")
    ]
    assert tables[0].replace("](docs/", "](") == tables[1] != ""


def _anchors(page):
    """As GitHub and MyST make them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
