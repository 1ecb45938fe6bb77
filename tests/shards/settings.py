"""Settings of a process whose tasks keep their rows on shards."""

import os

from tests.settings import *  # noqa: F403 a settings module is extended like this
from tests.settings import DATABASES, INSTALLED_APPS, database

INSTALLED_APPS = [*INSTALLED_APPS, "tests.shards"]
DATABASES = {**DATABASES, "eu": database(os.environ["TEST_EU"])}
