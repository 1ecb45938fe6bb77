"""Settings of the tests: of pytest itself and of every worker and process that a test starts."""

import os
from urllib.parse import urlsplit

from project.settings import *  # noqa: F403 a settings module is extended like this
from project.settings import CELERY_BROKER_URL, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.jobs"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# The same server as the broker, another database in it: results that a test can read.
CELERY_RESULT_BACKEND = urlsplit(CELERY_BROKER_URL)._replace(path="/1").geturl()
# A worker's own queue, so that the steps of a chain come back to the test that sent it.
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("TEST_QUEUE", "celery")
