"""Settings of the benchmarks: those of the tests, but for what a benchmark must not have."""

import os
from importlib.util import find_spec

from tests.settings import *  # noqa: F403 a settings module is extended like this
from tests.settings import INSTALLED_APPS

DEBUG = False  # else Django keeps each statement
CELERY_RESULT_BACKEND = "disabled://"
if "BENCH_WITHOUT_US" in os.environ:
    INSTALLED_APPS = [
        app for app in INSTALLED_APPS if app not in ("idempotency", "notifications", "tests.story")
    ]
if find_spec("reliable_outbox"):  # in .venv-bench, where it is measured
    INSTALLED_APPS = [*INSTALLED_APPS, "reliable_outbox"]
