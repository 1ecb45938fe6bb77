"""A stranger installs the wheel, and does what the README says, to the letter."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from psycopg.conninfo import make_conninfo

from tests.docs.blocks import ROOT, python_blocks
from tests.harness.waiting import wait_until

README = ROOT / "README.md"
QUICK_START = README.read_text().partition("## Quick start")[2].partition("\n## ")[0]
CHECKOUT = "file:///path/to/checkout"

LOOK_AT_THE_ADMIN = """
from django.contrib.auth.models import User
from django.test import Client
client = Client(headers={"host": "localhost"})
client.force_login(User.objects.create_superuser("ada"))
page = client.get("/admin/idempotency/idempotencyrecord/")
print(page.status_code, "shop.tasks.ship" in page.text)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    [wheel] = directory.glob("*.whl")
    return wheel


@pytest.fixture
def database() -> Iterator[Callable[[str], list[tuple[object, ...]]]]:
    """The database ``mysite`` on the tests' server: what a query to it returns."""
    server = connection.settings_dict
    url = make_conninfo(
        host=server["HOST"],
        port=server["PORT"],
        user=server["USER"],
        password=server["PASSWORD"],
        dbname="postgres",
    )

    def query(sql: str) -> list[tuple[object, ...]]:
        with psycopg.connect(make_conninfo(url, dbname="mysite")) as there:
            return there.execute(sql).fetchall()

    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE mysite")
        try:
            yield query
        finally:
            admin.execute("DROP DATABASE mysite WITH (FORCE)")


class Stranger:
    """Somebody with an empty virtual environment and an empty folder."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "work"
        self.folder.mkdir()
        subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
        server = connection.settings_dict
        ours = ("DATABASE_URL", "DJANGO_SETTINGS_MODULE", "PYTHONPATH", "VIRTUAL_ENV")
        self.environment = {k: v for k, v in os.environ.items() if k not in ours} | {
            "PATH": f"{home / 'venv' / 'bin'}:{os.environ['PATH']}",
            # Where the servers are, which the README takes to be at their usual places.
            "PGHOST": server["HOST"],
            "PGPORT": str(server["PORT"]),
            "PGUSER": server["USER"],
            "PGPASSWORD": server["PASSWORD"],
            "CELERY_BROKER_URL": settings.CELERY_BROKER_URL,
        }

    def types(self, line: str) -> str:
        """Run a line in the shell; what it printed."""
        ran = subprocess.run(
            ["/bin/bash", "-c", line],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"{line}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    def writes(self, code: str) -> None:
        """Put a block at the end of the file that its first line names."""
        with (self.folder / code.partition("\n")[0].removeprefix("# ")).open("a") as file:
            file.write(code)

    @contextmanager
    def another_terminal(self, line: str) -> Iterator[Path]:
        """Leave a program running for the block; where its words are."""
        log = self.folder.parent / "worker.log"
        with log.open("wb") as words:
            program = subprocess.Popen(
                ["/bin/bash", "-c", f"exec {line}"],
                cwd=self.folder,
                env=self.environment,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )
        try:
            yield log
        finally:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()


def consoles() -> list[list[str]]:
    """The lines of each block to type."""
    blocks = re.findall(r"^```console\n(.*?)^```", QUICK_START, re.MULTILINE | re.DOTALL)
    return [block.splitlines() for block in blocks]


def test_the_quick_start_absorbs_a_duplicate(tmp_path, wheel, database):
    stranger = Stranger(tmp_path)
    begin, (*prepare, worker), (send, stats) = consoles()
    for line in begin:
        stranger.types(line.replace(CHECKOUT, f"file://{wheel}"))
    assert CHECKOUT in begin[0]
    for code in python_blocks(README):
        if "def ship" in code:
            stranger.writes(f"# shop/tasks.py\n{code}")
        elif code.startswith("# "):
            stranger.writes(code)
    said = "".join(stranger.types(line) for line in prepare)
    assert "System check identified no issues (0 silenced)." in said

    with stranger.another_terminal(worker) as log:
        wait_until(lambda: " ready." in log.read_text(), "the worker to be ready", seconds=60)
        stranger.types(send)
        wait_until(lambda: log.read_text().count(" succeeded in ") == 2, "two ends", seconds=60)
        [promised] = re.findall(r"`(shop\.tasks\.ship: .*)`", QUICK_START)
        wait_until(lambda: promised in stranger.types(stats), "the duplicate to be written")
    assert database("SELECT order_id FROM shop_shipment") == [(7,)]

    assert stranger.types(f"python manage.py shell -c '{LOOK_AT_THE_ADMIN}'").endswith("200 True\n")
    where = stranger.types("python -c 'import idempotency; print(idempotency.__file__)'")
    assert Path(where).is_relative_to(tmp_path / "venv")
    assert "No changes" in stranger.types("python manage.py makemigrations --check --dry-run")
