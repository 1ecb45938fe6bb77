"""A user's ``makemigrations`` finds nothing of ours to do, whatever the project's settings."""

import json
import os
import subprocess
import sys

import pytest
from django.db import connection

from tests.harness.processes import ROOT

PROJECT = """
import json, os
import django
from django.conf import settings
from django.core.management import call_command

settings.configure(INSTALLED_APPS=["idempotency"], **json.loads(os.environ["USERS_SETTINGS"]))
django.setup()
call_command("migrate", verbosity=0)
call_command("makemigrations", check=True, dry_run=True)
"""


@pytest.mark.django_db
@pytest.mark.parametrize("auto_field", ["AutoField", "BigAutoField"])
@pytest.mark.parametrize("vendor", ["postgresql", "sqlite3"])
def test_makemigrations_stays_clean(vendor, auto_field, tmp_path):
    server = connection.settings_dict
    places = {
        "postgresql": {key: server[key] for key in ("NAME", "HOST", "PORT", "USER", "PASSWORD")},
        "sqlite3": {"NAME": str(tmp_path / "db.sqlite3")},
    }
    settings = {
        "DEFAULT_AUTO_FIELD": f"django.db.models.{auto_field}",
        "DATABASES": {
            "default": {"ENGINE": f"django.db.backends.{vendor}", **places[vendor]},
        },
    }
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROJECT],
        cwd=ROOT,
        env={**os.environ, "USERS_SETTINGS": json.dumps(settings)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "No changes detected\n"), ran.stdout + ran.stderr
