"""Settings of the tests: of pytest itself and of every worker and process that a test starts."""

import json
import os
import tempfile
from urllib.parse import urlsplit

from kombu import Queue

from project.settings import *  # noqa: F403 a settings module is extended like this
from project.settings import (
    CELERY_BROKER_URL,
    DATABASES,
    IDEMPOTENCY,
    INSTALLED_APPS,
    database,
)

INSTALLED_APPS = [*INSTALLED_APPS, "tests.jobs", "tests.story"]
# Every process that a test starts is told the name that the file has in this run.
_FILE = os.environ.get("TEST_SQLITE", f"{tempfile.gettempdir()}/idempotency-{os.getpid()}.sqlite3")
DATABASES = {
    **DATABASES,
    "sqlite": database(f"sqlite:///{_FILE}"),
    # Another way to the same database, for the tests of the doctor to change.
    "asked": {**DATABASES["default"], "TEST": {"MIRROR": "default"}},
}
if "TEST_POOL" in os.environ:
    _DEFAULT = DATABASES["default"]
    DATABASES["default"] = _DEFAULT | {
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {**_DEFAULT["OPTIONS"], "pool": json.loads(os.environ["TEST_POOL"])},
    }
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# Two databases of the broker's server for each process of pytest-xdist: one for messages, since
# any worker hands out again what any other has held for too long; one for results, for the tests.
_FIRST = 2 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
CELERY_BROKER_URL = urlsplit(CELERY_BROKER_URL)._replace(path=f"/{_FIRST}").geturl()
CELERY_RESULT_BACKEND = urlsplit(CELERY_BROKER_URL)._replace(path=f"/{_FIRST + 1}").geturl()
if "TEST_BROKER_URL" in os.environ:
    CELERY_BROKER_URL = os.environ["TEST_BROKER_URL"]
    CELERY_BROKER_TRANSPORT_OPTIONS = json.loads(os.environ["TEST_BROKER_OPTIONS"])
# Celery prefers this to its setting. (celery/app/utils.py, Settings.broker_url)
os.environ["CELERY_BROKER_URL"] = CELERY_BROKER_URL
CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS = {
    "result_chord_ordered": "TEST_CHORD_UNORDERED" not in os.environ
}
CELERY_TASK_ACKS_ON_FAILURE_OR_TIMEOUT = "TEST_NO_ACK_ON_TIMEOUT" not in os.environ
if "TEST_ACKS_ON_TIMEOUT" in os.environ:
    CELERY_TASK_ACKS_ON_TIMEOUT = os.environ["TEST_ACKS_ON_TIMEOUT"] == "1"
CELERY_TASK_ACKS_LATE = "TEST_ACKS_EARLY" not in os.environ
CELERY_TASK_PUBLISH_RETRY = "TEST_NO_PUBLISH_RETRY" not in os.environ
if "TEST_DB_REUSE_MAX" in os.environ:
    CELERY_DB_REUSE_MAX = int(os.environ["TEST_DB_REUSE_MAX"])
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = float(os.environ.get("TEST_SOFT_SHUTDOWN", 0))
if "TEST_RETRY_ON_WORKER_LOST" in os.environ:
    CELERY_TASK_REJECT_ON_WORKER_LOST = False
    CELERY_TASK_RETRY_ON_WORKER_LOST = True
if os.environ.get("TEST_QUORUM"):
    CELERY_TASK_DEFAULT_QUEUE_TYPE = "quorum"
    CELERY_TASK_DEFAULT_EXCHANGE_TYPE = "topic"  # a direct exchange cannot delay there
if "TEST_MAX_REDELIVERIES" in os.environ:
    IDEMPOTENCY = {**IDEMPOTENCY, "MAX_REDELIVERIES": int(os.environ["TEST_MAX_REDELIVERIES"])}
if "TEST_PURGE_BATCH" in os.environ:
    IDEMPOTENCY = {**IDEMPOTENCY, "PURGE_BATCH": int(os.environ["TEST_PURGE_BATCH"])}
# A worker's own queue, so that the steps of a chain come back to the test that sent it.
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("TEST_QUEUE", "celery")
if "TEST_QUEUE_LENGTH" in os.environ:
    _ARGUMENTS = {
        "x-max-length": int(os.environ["TEST_QUEUE_LENGTH"]),
        "x-overflow": "reject-publish",
    }
    CELERY_TASK_QUEUES = [Queue(CELERY_TASK_DEFAULT_QUEUE, queue_arguments=_ARGUMENTS)]
