"""Settings of a storm: of the process that blows it and of every worker in it."""

import os
from datetime import timedelta

from tests.settings import *  # noqa: F403 a settings module is extended like this
from tests.settings import IDEMPOTENCY, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.chaos"]
# So many messages of a worker that dies have never started, and come back all the same.
CELERY_WORKER_PREFETCH_MULTIPLIER = 2
# Longer than a broker is away. Celery acknowledges a task whose retry, or whose next step, could
# not be published, and so loses what was to come. (celery/app/task.py, retry; app/trace.py)
CELERY_TASK_PUBLISH_RETRY_POLICY = {
    "max_retries": 90,
    "interval_start": 0.1,
    "interval_step": 0.1,
    "interval_max": 0.5,
}
# The claim of a dead process on publishing a chord's body lasts as long as all of these tries may
# take: two minutes, after which the storm still waits. (celery/backends/redis.py)
CELERY_BROKER_CONNECTION_TIMEOUT = 1
CELERY_RESULT_BACKEND = os.environ["STORM_RESULTS"]
CELERY_RESULT_BACKEND_THREAD_SAFE = True  # one for all threads that publish
CELERY_TASK_IGNORE_RESULT = True  # a chord's results are kept all the same
IDEMPOTENCY = {
    **IDEMPOTENCY,
    "LEASE": timedelta(seconds=float(os.environ["LEASE_SECONDS"])),
    "PURGE_BATCH": 50_000,  # a purge every few seconds looks at all of a long storm
}
