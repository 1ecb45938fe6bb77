"""A whole table in batches: each row is in one of them, whatever the table looks like."""

import pytest
from django.db import connection
from django.db.models import QuerySet

from idempotency.models import IdempotencyRecord
from idempotency.storage.batches import batches
from tests.admin.records import made
from tests.harness.pages import QUARTER, without_pages

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "sqlite"])


@pytest.fixture(autouse=True)
def no_pages(transactional_db):
    without_pages()


def records(using: str = "default") -> QuerySet:
    return IdempotencyRecord.objects.using(using).order_by()


@pytest.mark.parametrize("using", ["default", "sqlite"])
@pytest.mark.parametrize("size", [1, 40, 80, 81, 120, 1000])
def test_each_row_is_in_one_batch(size, using):
    pks = [made(result=QUARTER, using=using).pk for _ in range(21)]  # six pages
    records(using).filter(pk__in=pks[4:8]).delete()  # one that is empty
    found = [
        pk for batch in batches(records(using), size) for pk in batch.values_list("pk", flat=True)
    ]
    assert sorted(found) == pks[:4] + pks[8:]


@pytest.mark.parametrize(("size", "pages"), [(1, 1), (40, 1), (80, 2), (200, 5)])
def test_a_batch_is_as_many_pages_as_its_rows_fill(size, pages):
    for _ in range(40):
        made(result=QUARTER)
    counts = [batch.count() for batch in batches(records(), size)]
    assert counts == [4 * pages] * (10 // pages)


def test_a_batch_reads_its_own_pages_only():
    for _ in range(40):
        made(result=QUARTER)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE idempotency_record")
    for batch in batches(records(), 80):
        plan = batch.explain(analyze=True, buffers=True)
        assert "Tid Range Scan" in plan
        assert "shared hit=2" in plan


def test_a_table_without_a_page_has_no_batch():
    assert list(batches(records(), 1)) == []
