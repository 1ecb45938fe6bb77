"""Strike every point by every fault, and write the page of guarantees from what was observed:
``python -m project.services run --throwaway python -m tests.crashes``.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"  # of the servers it is another's
django.setup()

from tests.crashes import outcomes  # noqa: E402 not before Django is set up

TESTS = ["tests/crashes/test_crash_points.py", "tests/crashes/test_broker_points.py"]
PYTEST = [sys.executable, "-m", "pytest", "-n", str(3 * (os.cpu_count() or 1)), *TESTS]

with tempfile.TemporaryDirectory() as folder:
    environment = {**os.environ, "CRASHES": "all", "CRASHES_INTO": folder}
    if subprocess.run(PYTEST, env=environment, check=False).returncode:
        raise SystemExit("Nothing is written: a promise was broken.")
    outcomes.write(each for file in Path(folder).iterdir() for each in outcomes.read(file))
subprocess.run([sys.executable, "-m", "tests.docs"], check=True)
