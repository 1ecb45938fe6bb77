"""Many processes, one key, at the same moment."""

from collections import Counter

import pytest

from tests.jobs.models import effects

pytestmark = pytest.mark.django_db(transaction=True)


def test_fifty_processes_that_wait_get_one_result_and_forty_nine_replays(call):
    ended = call("tests.jobs.calls:stampede", number=50, wait_seconds=30, hold=False).answer()
    assert [kind for kind, _ in ended] == ["returned"] * 50
    (first,) = {result for _, (result, _) in ended}
    assert Counter(replayed for _, (_, replayed) in ended) == {False: 1, True: 49}
    assert isinstance(first, int)
    assert effects("key") == 1


def test_of_fifty_processes_that_do_not_wait_one_has_a_result(call):
    ended = call("tests.jobs.calls:stampede", number=50, wait_seconds=0, hold=True).answer()
    assert Counter(kind for kind, _ in ended) == {"returned": 1, "raised": 49}
    assert {what for kind, what in ended if kind == "raised"} == {"AlreadyRunning"}
    assert effects("key") == 1
