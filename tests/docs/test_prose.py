"""What the pages say in words, and the code in values."""

import re
from datetime import timedelta

import pytest
from celery.app.defaults import NAMESPACES, flatten

from idempotency import events, execution, leased
from idempotency.calls import TRIES
from idempotency.conf import DEFAULTS
from idempotency.contrib import celery
from tests.docs.blocks import ROOT, python_blocks

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


@pytest.mark.parametrize(
    ("page", "said", "is_so"),
    [
        ("how-to/choose-a-key.md", "30 days by default", DEFAULTS["RETENTION"].days == 30),
        ("how-to/pick-a-promise.md", "else an hour", leased.MAX_RUN == timedelta(hours=1)),
        ("how-to/celery-settings.md", "an hour by default", leased.MAX_RUN == timedelta(hours=1)),
        ("how-to/views-and-commands.md", "within 10 ms", execution.SHORTEST_PAUSE == 0.01),
        ("how-to/views-and-commands.md", "every half second", execution.LONGEST_PAUSE == 0.5),
        ("how-to/brokers.md", "After `DEFER_FOR` (a day)", DEFAULTS["DEFER_FOR"].days == 1),
        ("how-to/brokers.md", "up to 30 seconds", celery.LONGEST_DEFERRAL == 30),
        ("explanation/guarantees.md", "to half a minute", celery.LONGEST_DEFERRAL == 30),
        ("explanation/guarantees.md", "up to three times", TRIES == 3),
        ("explanation/algorithm.md", "at most three times", TRIES == 3),
        ("how-to/watch-and-log.md", "for one second", events.GATHER_FOR == 1.0),
        ("how-to/watch-and-log.md", "for up to one second", events.PATIENCE == 1.0),
        ("how-to/watch-and-log.md", "at most 10 a minute", events.PER_MINUTE == 10),
    ],
)
def test_a_figure_in_the_text_is_the_one_in_the_code(page, said, is_so):
    assert said in (DOCS / page).read_text()
    assert is_so


def test_every_check_that_a_page_names_is_on_the_page_of_checks():
    checks = (DOCS / "reference/checks.md").read_text()
    known = set(re.findall(r"^## (idempotency\.\w+)", checks, re.MULTILINE))
    named = {
        f"idempotency.{number}"
        for page in PAGES
        for number in re.findall(r"\b([EW]\d{3})\b", page.read_text())
    }
    assert named - known == set()


def test_celery_knows_every_setting_that_a_page_sets():
    known = {name for name, _ in flatten(NAMESPACES)}
    known.add("db_reuse_max")  # of its Django fixup alone (celery/fixups/django.py)
    for page in PAGES:
        for code in python_blocks(page):
            given = {name.lower() for name in re.findall(r"^CELERY_(\w+) = ", code, re.MULTILINE)}
            assert given <= known, page.name


def test_celery_knows_every_setting_that_the_page_on_its_settings_names():
    known = {name for name, _ in flatten(NAMESPACES)}
    text = (DOCS / "how-to/celery-settings.md").read_text()
    named = set(re.findall(r"`((?:task|worker|result|broker)_\w+)[`= ]", text))
    assert len(named) > 10
    assert named <= known
