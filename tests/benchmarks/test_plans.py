"""Each form that is measured does the whole of the job: else what it saves is the work."""

import pytest
from django.db import connection

from idempotency.models import IdempotencyRecord
from tests.benchmarks.plans import Forms, subjects
from tests.jobs.models import Effect


@pytest.mark.django_db(transaction=True)
def test_each_form_commits_its_effect_together_with_its_record():
    connection.ensure_connection()
    try:
        for form in subjects(Forms(connection.connection)):
            if form.base != form.name and "A/A" not in form.name:
                form.call(1)
        assert Effect.objects.count() == IdempotencyRecord.objects.count() == 4
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION bench_look, bench_record; DEALLOCATE ALL")
