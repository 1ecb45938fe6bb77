"""Every page in docs/ runs from top to bottom, and its own tests pass."""

import re
import sys
import types
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from django.test import RequestFactory

from idempotency import exceptions
from tests.docs.blocks import ROOT, python_blocks
from tests.execution.bodies import Thread
from tests.story import models, tasks

#: The tutorial is typed in by a test of its own.
PAGES = sorted(
    page
    for page in (ROOT / "docs").rglob("*.md")
    if python_blocks(page) and page.name != "tutorial.md"
)
COMMITS = "@pytest.mark.django_db(transaction=True)"
TESTS = [
    pytest.param(
        page,
        name,
        id=f"{page.stem}-{name}",
        marks=[pytest.mark.django_db(transaction=True)] if COMMITS in decorators else [],
    )
    for page in PAGES
    for code in python_blocks(page)
    for decorators, name in re.findall(r"((?:^@.*\n)*)^def (test_\w+)", code, re.MULTILINE)
]

pytestmark = pytest.mark.django_db


@cache  # Celery knows a task of a page by one name
def names_of(page: Path) -> dict[str, Any]:
    """Run the blocks of a page, for a reader who has an app ``executions``; their names."""
    names = {"__name__": f"docs_{page.stem.replace('-', '_')}"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "executions", types.ModuleType("executions"))
        patch.setitem(sys.modules, "executions.models", models)
        patch.setitem(sys.modules, "executions.tasks", tasks)
        for code in python_blocks(page):
            exec(compile(code, page.name, "exec"), names)  # noqa: S102 this is what the test is for
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_a_page_runs(page):
    names_of(page)


@pytest.mark.parametrize(("page", "name"), TESTS)
def test_a_test_on_a_page_passes(page, name, request):
    test = names_of(page)[name]
    test(**{fixture: request.getfixturevalue(fixture) for fixture in signature(test).parameters})


@pytest.mark.django_db(transaction=True)
def test_the_webhook_tells_its_sender_to_come_again_while_the_event_is_at_work(monkeypatch):
    page = names_of(ROOT / "docs/how-to/views-and-commands.md")
    event = {"id": "evt-1", "status": "done"}
    answers = []

    def store(event):
        with Thread(lambda: page["post"](RequestFactory(), event)) as other:
            answers.append(other.result())
        return 1

    monkeypatch.setitem(page, "store", store)
    monkeypatch.setattr(page["complete"], "delay", lambda pk: None)
    assert page["post"](RequestFactory(), event).status_code == 200
    assert [(answer.status_code, answer["Retry-After"]) for answer in answers] == [(503, "5")]


def test_every_test_that_a_page_names_is_there():
    """A row whose test was renamed or dropped promises what nobody runs."""
    tests = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    known = set(tests) | set(re.findall(r"def (test_\w+)\(", "".join(tests.values())))
    named = {
        (page.name, name)
        for page in (ROOT / "docs").rglob("*.md")
        for name in re.findall(r"`(?:tests/[\w/]*)?(test_\w+(?:\.py)?)`", page.read_text())
    }
    assert {each for each in named if each[1] not in known} == set()


@pytest.mark.parametrize("page", ["reference/celery.md", "explanation/guarantees.md"])
def test_every_row_of_a_table_of_tests_names_one(page):
    tables = re.findall(r"(?:^\|.*\n)+", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    tables = [rows for heading, _, *rows in map(str.splitlines, tables) if "| Test |" in heading]
    assert len(tables) == 2
    assert [row for rows in tables for row in rows if "`test_" not in row] == []


def test_the_celery_page_has_a_row_for_each_of_our_exceptions():
    page = (ROOT / "docs/reference/celery.md").read_text()
    ours = {name for name, kind in vars(exceptions).items() if isinstance(kind, type)}
    assert {name for name in ours - {"IdempotencyError"} if f"`{name}`" not in page} == set()
