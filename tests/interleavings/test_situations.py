"""Each situation, in all of its schedules."""

import pytest

from tests.interleavings.explorer import explore
from tests.interleavings.situations import SITUATIONS

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_schedule_keeps_the_promise(name, record_property):
    explored = explore(SITUATIONS[name])
    record_property("schedules", str(explored))
    assert explored.noted.keys() == SITUATIONS[name].reaches
