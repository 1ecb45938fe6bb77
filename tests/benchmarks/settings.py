"""Settings of the benchmarks: those of the tests, on connections that stay open."""

import os
from importlib.util import find_spec

from tests.settings import *  # noqa: F403 a settings module is extended like this
from tests.settings import DATABASES, INSTALLED_APPS

DEBUG = False  # else Django keeps each statement
# By default Django opens a connection for each task, which then is most of what a small one costs.
DATABASES = {
    alias: {**database, "CONN_MAX_AGE": None if "BENCH_RECONNECTS" not in os.environ else 0}
    for alias, database in DATABASES.items()
}
CELERY_RESULT_BACKEND = "disabled://"
if "BENCH_WITHOUT_US" in os.environ:
    INSTALLED_APPS = [
        app for app in INSTALLED_APPS if app not in ("idempotency", "notifications", "tests.story")
    ]
if find_spec("reliable_outbox"):  # in .venv-bench, where it is measured
    INSTALLED_APPS = [*INSTALLED_APPS, "reliable_outbox"]
