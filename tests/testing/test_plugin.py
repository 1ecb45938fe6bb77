"""What a user installs, in a project of his own: the plugin, on SQLite, in a process of its own."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["idempotency", "shop"]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": "never-to-be-touched.sqlite3",
    "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 10},
    "TEST": {"NAME": "test.sqlite3"},
}}
"""
MODELS = """
from django.db import models


class Parcel(models.Model):
    order_id = models.IntegerField()
"""
TASKS = """
from celery import shared_task
from idempotency import Leased, OnDoubt, idempotent
from shop.models import Parcel


@shared_task(acks_late=True)
@idempotent(key="order_id")
def ship(order_id, note=""):
    return Parcel.objects.create(order_id=order_id).pk


@shared_task(acks_late=True)
@idempotent(key="order_id", policy=Leased(on_doubt=OnDoubt.HOLD))
def order_courier(order_id):
    return Parcel.objects.create(order_id=order_id).pk


@shared_task(acks_late=True)
@idempotent(key=("order_id", "note"), scope="mistaken")
def ship_by_note(order_id, note):
    return Parcel.objects.create(order_id=order_id).pk
"""
RIGHT = """
from datetime import timedelta

import pytest
from idempotency.testing import *
from shop.models import Parcel
from shop.tasks import order_courier, ship


def test_a_redelivered_order_ships_once(db):
    first, second = deliver_twice(ship, order_id=7)
    assert second.replayed and second.result == first.result
    assert_effects(Parcel.objects)


def test_it_ships_once_whenever_its_worker_dies(db, moment_of_death):
    message = Message(ship, order_id=7)
    message.die(moment_of_death)
    message.deliver()
    assert_effects(Parcel.objects)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("moment", [BEFORE_EFFECT, AFTER_EFFECT, AFTER_COMMIT])
def test_it_ships_once_whenever_its_worker_is_killed(moment):
    message = Message(ship, order_id=7)
    message.die(moment)
    message.deliver()
    assert_effects(Parcel.objects)


def test_a_courier_is_ordered_once_or_there_is_a_doubt(db):
    for number, death in enumerate(every_death()):
        message = Message(order_courier, number)
        message.die(death)
        let_time_pass(timedelta(minutes=10))
        message.deliver()
        assert_once_or_in_doubt(message, effects=Parcel.objects.filter(order_id=number))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("task", [ship, order_courier])
def test_two_workers_at_once_ship_once(task):
    message = Message(task, order_id=7)
    deliver_concurrently(message, message)
    assert_effects(Parcel.objects)
"""
WRONG = """
from django.test import TestCase
from idempotency.testing import *
from shop.models import Parcel
from shop.tasks import order_courier, ship, ship_by_note


def test_effects(db):
    Message(ship_by_note, 7, "by hand").deliver()
    Message(ship_by_note, 7, note="by machine").deliver()
    assert_effects(Parcel.objects)


def test_state(db):
    message = Message(order_courier, 7)
    message.die(AFTER_EFFECT)
    assert_succeeded(message)


def test_plain(db):
    message = Message(ship, 7)
    message.die(AFTER_EFFECT)
    assert Parcel.objects.count() == 1


def test_no_message(db):
    assert False


class ShipTests(TestCase):
    def test_rolled_back(self):
        Message(ship, 7).deliver()
        self.fail()
"""
MEMORY = """
import pytest
from idempotency.testing import *
from shop.tasks import ship

pytestmark = pytest.mark.django_db(transaction=True)


def test_nobody_else_reaches_a_database_in_memory():
    message = Message(ship, 7)
    with pytest.raises(CannotDeliver, match=r"DATABASES\\['default'\\]\\['TEST'\\]\\['NAME'\\]"):
        message.die(AFTER_EFFECT)
    with pytest.raises(CannotDeliver, match="is in the memory of this process"):
        deliver_concurrently(message, message)


"""
UNITTEST = """
from django.test import TestCase
from idempotency.testing import AFTER_EFFECT, Message, assert_effects, deliver_twice
from shop.models import Parcel
from shop.tasks import ship


class ShipTests(TestCase):
    def test_a_redelivered_order_ships_once(self):
        deliver_twice(ship, order_id=7)
        assert_effects(Parcel.objects)

    def test_it_ships_once_though_its_worker_dies(self):
        message = Message(ship, order_id=7)
        message.die(AFTER_EFFECT)
        message.deliver()
        assert_effects(Parcel.objects)

    def test_zz_no_story_of_another_test_is_told(self):
        with self.assertRaises(AssertionError) as failed:
            assert_effects(Parcel.objects)
        self.assertNotIn("The story of", str(failed.exception))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the app as pip puts it there, its entry points too."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
    subprocess.run(command, check=True, cwd=CHECKOUT, capture_output=True)
    [wheel] = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def project(tmp_path, installed):
    """A user's project, and how to run its tests: ``project(test_shop=...)``."""
    (tmp_path / "shop").mkdir()
    files = {
        "settings.py": SETTINGS,
        "shop/__init__.py": "",
        "shop/models.py": MODELS,
        "shop/tasks.py": TASKS,
        "pytest.ini": "[pytest]\nDJANGO_SETTINGS_MODULE = settings\n"
        "django_find_project = false\npythonpath = .\n",
    }

    def run(*arguments, **tests):
        named = {f"{name}.py": text for name, text in tests.items()}
        for name, text in (files | named).items():
            (tmp_path / name).write_text(text)
        return run_in(tmp_path, installed, "-m", *arguments)

    return run


def run_in(folder, installed, *command):
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


PYTEST = ("pytest", "-W", "error", "-p", "no:cacheprovider", "-q")


def test_a_users_tests_run_with_what_was_installed(project, tmp_path):
    ran = project(*PYTEST, test_shop=RIGHT)
    assert "10 passed" in ran.stdout, ran.stdout + ran.stderr
    assert not (tmp_path / "never-to-be-touched.sqlite3").exists()


def test_a_failed_assertion_explains(project):
    ran = project(*PYTEST, "-p", "no:randomly", test_wrong=WRONG)
    assert "5 failed" in ran.stdout, ran.stdout + ran.stderr
    failures = ran.stdout.split("= FAILURES =")[1].partition("= short test summary")[0]
    _, *named = re.split(r"^_+ (\S+) _+$", failures, flags=re.MULTILINE)
    told = dict(zip(named[::2], named[1::2], strict=True))
    effects, state, plain = told["test_effects"], told["test_state"], told["test_plain"]

    assert "There are 2 effects, and 1 should be there." in effects
    assert "Look whether two keys were one effect" in effects
    assert "The story of shop.tasks.ship_by_note(7, 'by hand')" in effects
    assert "The story of shop.tasks.ship_by_note(7, note='by machine')" in effects

    assert "The record of shop.tasks.order_courier(7) is running, not succeeded." in state
    assert "delivery 1: died after the effect" in state
    assert "finds a doubt: its effect had begun" in state
    assert state.count("The story of") == 1  # not a second time below

    assert "- idempotency -" in plain
    assert "delivery 1: died after the effect" in plain
    assert "No attempt has committed one, so nothing of its rows stands either." in plain

    for silent in ("test_no_message", "ShipTests.test_rolled_back"):
        assert "- idempotency -" not in told[silent]


def test_a_database_in_memory_is_told_of(project):
    memory = SETTINGS.replace('"TEST": {"NAME": "test.sqlite3"},', "")
    ran = project(*PYTEST, "--ds=memory", memory=memory, test_memory=MEMORY)
    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr


def test_djangos_own_runner_needs_no_pytest(project):
    ran = project("django", "test", "--settings=settings", tests=UNITTEST)
    assert "Ran 3 tests" in ran.stderr, ran.stdout + ran.stderr
    assert ran.returncode == 0, ran.stderr


def test_the_plugin_is_harmless_where_there_is_no_django(tmp_path, installed):
    (tmp_path / "test_other.py").write_text(
        "import sys\n\n\n"
        "def test_nothing_of_the_app_is_loaded_but_the_plugin():\n"
        "    ours = {name for name in sys.modules if name.startswith('idempotency')}\n"
        "    assert ours == {'idempotency', 'idempotency.testing', 'idempotency.testing.plugin'}\n"
    )
    ran = run_in(tmp_path, installed, "-m", *PYTEST)
    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr


def test_neither_pytest_nor_celery_has_to_be_installed(tmp_path):
    code = (
        "import sys; sys.modules |= {'pytest': None, 'celery': None, 'kombu': None};"
        "import importlib.util; find = importlib.util.find_spec;"
        "importlib.util.find_spec = lambda name, *a: None if name == 'celery' else find(name, *a);"
        "import idempotency.testing;"
        "from django.conf import settings;"
        "settings.configure(USE_TZ=True, INSTALLED_APPS=['idempotency'], DATABASES={'default': {"
        "'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:',"
        "'OPTIONS': {'transaction_mode': 'IMMEDIATE'}}});"
        "import django; django.setup();"
        "from django.core.management import call_command; call_command('migrate', verbosity=0);"
        "from idempotency.testing import *;"
        "from idempotency import idempotent;"
        "job = idempotent(key='n', scope='s')(lambda n: n);"
        "first, second = deliver_twice(job, 7);"
        "assert second.replayed and second.result == first.result == 7;"
        "assert_succeeded(first.message)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)
