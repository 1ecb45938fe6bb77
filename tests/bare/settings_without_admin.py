"""The same without the admin and all that comes with it."""

from tests.bare.settings import DATABASES as DATABASES
from tests.bare.settings import DEFAULT_AUTO_FIELD as DEFAULT_AUTO_FIELD
from tests.bare.settings import SECRET_KEY as SECRET_KEY
from tests.bare.settings import USE_TZ as USE_TZ

INSTALLED_APPS = ["idempotency", "tests.jobs"]
