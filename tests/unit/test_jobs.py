"""The functions of a project are found, whoever asks, and from wherever."""

import pytest

from idempotency import idempotent, jobs


@pytest.fixture
def unloaded(monkeypatch):
    """A project whose tasks nobody has imported yet."""
    monkeypatch.setattr(jobs, "jobs", {})
    monkeypatch.setattr(jobs, "loaders", [])
    return jobs


def declare():
    @idempotent(key="order_id", scope="send")
    def send(order_id):
        pass


def test_who_asks_for_the_jobs_gets_those_that_nobody_has_imported(unloaded):
    unloaded.loaders.append(declare)
    assert list(unloaded.all_jobs()) == ["send"]


def test_a_module_that_asks_while_it_is_imported_gets_what_is_known(unloaded):
    known = []

    def load():
        declare()
        known.append(list(unloaded.all_jobs()))

    unloaded.loaders.append(load)
    unloaded.all_jobs()
    assert known == [["send"]]


def test_an_import_that_failed_is_tried_again(unloaded):
    def load():
        raise ImportError("no such module")

    unloaded.loaders.append(load)
    with pytest.raises(ImportError):
        unloaded.all_jobs()
    unloaded.loaders[:] = [declare]
    assert list(unloaded.all_jobs()) == ["send"]
