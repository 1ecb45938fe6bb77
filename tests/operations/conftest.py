"""Fixtures of the tests of checks, commands and admin."""

from copy import deepcopy
from importlib import import_module
from importlib.util import find_spec

import pytest
from django.db import connections

from idempotency import jobs


@pytest.fixture(autouse=True)
def _only_the_project_s_jobs(monkeypatch):
    """Tests and pages declare functions and tasks by the way, and give two of them one scope."""
    ours = {scope: job for scope, job in jobs.all_jobs().items() if is_of_the_project(job)}
    monkeypatch.setattr(jobs, "jobs", ours)
    monkeypatch.setattr(jobs, "clashes", set())
    tasks = import_module("project.celery").app.tasks if find_spec("celery") else {}
    for name, task in list(tasks.items()):
        job = getattr(task.run, "__idempotent__", None)
        if job is not None and not is_of_the_project(job):
            monkeypatch.delitem(tasks, name)


def is_of_the_project(job):
    return job.name.startswith(("notifications.", "tests.jobs."))


@pytest.fixture
def alias(monkeypatch):
    """The alias "asked", another way to this test's database: with other options, as somebody
    else, at another port."""

    def make(*, options=None, like="default", **changes):
        settings = deepcopy(connections[like].settings_dict) | changes
        settings["OPTIONS"] |= options or {}
        monkeypatch.setitem(connections.settings, "asked", settings)
        del connections["asked"]  # so that it is made anew
        return "asked"

    connections["asked"].close()
    yield make
    connections["asked"].close()
    if connections["asked"].vendor == "postgresql":
        connections["asked"].close_pool()
    monkeypatch.undo()
    del connections["asked"]
