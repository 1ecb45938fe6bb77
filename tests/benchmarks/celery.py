"""The Celery application of the benchmarks' workers: ``celery -A tests.benchmarks.celery``.

It has no task but those that are measured: a project's own would make it larger.
"""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.benchmarks.settings")

app = Celery("bench")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.include = ["tests.benchmarks.tasks_plain"]
if "BENCH_WITHOUT_US" not in os.environ:
    app.conf.include += ["tests.benchmarks.tasks_ours"]
if "BENCH_KEEPS_CONNECTIONS" in os.environ:
    # Else Celery closes them before and after each task, since 5.6 whatever CONN_MAX_AGE is.
    # (celery/fixups/django.py, DjangoWorkerFixup.close_database)
    app.conf.CELERY_DB_REUSE_MAX = 1_000_000_000
app.set_default()
