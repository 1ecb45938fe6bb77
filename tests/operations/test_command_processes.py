"""Commands as a shell sees them: exit statuses, Ctrl-C, a pipe that nobody reads any more."""

import os
import signal
import subprocess
import sys

import pytest
from django.db import transaction
from django.utils import timezone

from idempotency import execute
from idempotency.models import IdempotencyRecord
from tests.admin.records import ago, made
from tests.execution.bodies import renamed, waits_for_a_lock
from tests.harness.pages import QUARTER, without_pages
from tests.harness.processes import ROOT, Process, database_url
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def manage(tmp_path):
    """Start ``manage.py idempotency_...``; what it says is in the log."""
    started = []

    def start(command, *arguments, **environment):
        name, log = f"idempotency_{command}", tmp_path / f"{len(started)}.log"
        process = Process(["manage.py", name, *arguments], log=log, environment=environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.mark.parametrize(
    ("status", "said", "arguments"),
    [
        (0, "parked           0", ["stats"]),
        (0, "Would delete 0 records", ["purge", "--dry-run"]),
        (1, "CommandError: No record has this key in test.", ["show", "7", "--scope", "test"]),
        (1, "CommandError: There is no database alias", ["sweep", "--database", "nowhere"]),
        (2, "required: --reason", ["resolve", "7", "--happened"]),
        (2, "--reason: it is empty", ["allow_again", "7", "--reason", " "]),
        (2, "--reason: it is not valid Unicode", ["allow_again", "7", "--reason", b"\xff"]),
        (2, "--scope: scope must be a printable text", ["show", "7", "--scope", ""]),
        (2, "above 0 and up to 876000, not '0'", ["stats", "--hours", "0"]),
        (2, "not '-1'", ["stats", "--hours=-1"]),
        (2, "not 'nan'", ["stats", "--hours", "nan"]),
        (2, "not '1e9'", ["stats", "--hours", "1e9"]),
        (2, "not 'day'", ["stats", "--hours", "day"]),
        (2, "unrecognized arguments: --older-than 0", ["purge", "--older-than", "0"]),
    ],
)
def test_the_status_says_whether_it_did_what_it_says(status, said, arguments, manage):
    process = manage(*arguments)
    assert process.wait(seconds=60) == status
    assert said in process.log.read_text()
    assert "Traceback" not in process.log.read_text()


def test_a_batch_of_nothing_is_refused_before_anything_is_deleted(manage):
    execute(lambda: None, key=7, scope="test")
    IdempotencyRecord.objects.update(expires_at=timezone.now())
    process = manage("purge", TEST_PURGE_BATCH="0")
    assert process.wait(seconds=60) == 1
    assert "idempotency.E003" in process.log.read_text()
    assert "must be a positive int, not 0" in process.log.read_text()
    assert "Traceback" not in process.log.read_text()
    assert IdempotencyRecord.objects.count() == 1


def test_without_its_tables_a_command_says_that_migrate_was_not_run(manage):
    with renamed("idempotency_record"):
        process = manage("stats")
        assert process.wait(seconds=60) == 1
    assert "manage.py migrate idempotency --database default" in process.log.read_text()
    assert "Traceback" not in process.log.read_text()


def test_a_database_that_does_not_answer_is_named(manage):
    process = manage("stats", DATABASE_URL="host=127.0.0.1 port=1 dbname=x user=x")
    assert process.wait(seconds=60) == 1
    assert "CommandError: The database 'default' cannot be used: conn" in process.log.read_text()
    assert "Traceback" not in process.log.read_text()


def test_a_purge_that_is_interrupted_keeps_what_it_did_and_says_so(manage):
    without_pages()
    pks = [made(result=QUARTER, expires_at=ago(hours=1)).pk for _ in range(20)]
    with transaction.atomic():
        IdempotencyRecord.objects.select_for_update().get(pk=pks[15])
        process = manage("purge", TEST_PURGE_BATCH="10", TEST_PURGE_PATIENCE="60")
        wait_until(waits_for_a_lock, "the purge to reach the row that is locked", seconds=60)
        process.signal(signal.SIGINT)
        assert process.wait() == 130
    assert IdempotencyRecord.objects.count() == 8
    assert process.log.read_text() == "Interrupted: what was done until then stays done.\n"


@pytest.mark.parametrize("size", [1, 200_000], ids=["at its end", "in its middle"])
def test_a_reader_that_goes_away_is_no_error(size, tmp_path):
    execute(lambda: "x" * size, key=7, scope="test")
    errors = tmp_path / "errors"
    with errors.open("w") as stderr:
        command = ["manage.py", "idempotency_show", "7", "--scope", "test", "--json"]
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "DATABASE_URL": database_url(),
                "PYTHONUNBUFFERED": "",  # so that what is short is written at the end
            },
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        process.stdout.close()
        assert process.wait(timeout=60) == 141
    assert errors.read_text() == ""
