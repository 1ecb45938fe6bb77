"""What the page on the admin says is so."""

import re

import pytest
from django.contrib import admin

from idempotency import backlog
from idempotency.admin import attention, base, display, export, search
from idempotency.events import PER_MINUTE
from idempotency.lookup import FEWEST_DIGITS
from idempotency.models import IdempotencyRecord
from tests.admin.records import HOSTILE
from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs/how-to/use-the-admin.md").read_text()


@pytest.mark.parametrize(
    ("said", "is_so"),
    [
        ("open for more than a minute", attention.LONG.total_seconds() == 60),
        ("A count ends at 10,000", backlog.CAP == 10_000),
        ("the first 8 or more", FEWEST_DIGITS == 8),
        ("the newest 20,000 records and events", search.NEWEST == 20_000),
        ("the newest 200,000 ids", base.BoundedChangeList.WINDOW == 200_000),
        ("Pages end after 5,000 rows", base.CappedPaginator.CAP == 5_000),
        ("ten of a kind are kept each minute", PER_MINUTE == 10),
        ("cut after 10,000 characters", display.LENGTH == 10_000),
        ("100 rows by one statement", export.CHUNK == 100),
    ],
)
def test_a_figure_on_the_page_is_the_one_in_the_code(said, is_so):
    assert said in PAGE
    assert is_so


@pytest.fixture
def _registry():
    before = dict(admin.site._registry)
    yield
    admin.site._registry.clear()
    admin.site._registry.update(before)


@pytest.mark.usefixtures("_registry")
def test_what_the_page_tells_a_project_to_write_works():
    code, _under_unfold = re.findall(r"^```py\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names = {"__name__": "shop.admin"}
    exec(compile(code, "admin.py", "exec"), names)  # noqa: S102 this is what the test is for
    own = admin.site._registry[IdempotencyRecord]
    assert type(own) is names["RecordAdmin"]
    assert own.check() == []
    record = IdempotencyRecord(task_id="5f0e", key=HOSTILE)
    assert own.monitor_url.format(task_id="5f0e") == "https://flower.example/task/5f0e"
    assert own.get_related_url(record).startswith("/admin/shop/order/?q=%3Cscript%3E")
    assert own.get_related_url(IdempotencyRecord()) is None
