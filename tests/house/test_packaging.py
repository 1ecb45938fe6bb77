"""What a user installs."""

import subprocess
import sys
import zipfile
from pathlib import Path

from tests import translations

CHECKOUT = Path(__file__).resolve().parents[2]


def test_the_wheel_holds_the_app_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path]
    subprocess.run(command, check=True, cwd=CHECKOUT, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {
        "idempotency",
        "django_transactional_idempotency",
    }
    assert {"idempotency/py.typed", "idempotency/migrations/0001_initial.py"} <= names
    for locale in translations.LOCALES:
        for kind in ("mo", "po"):
            assert f"idempotency/locale/{locale}/LC_MESSAGES/django.{kind}" in names
    for kind in ("static", "templates"):
        assert any(name.startswith(f"idempotency/{kind}/") for name in names)
