"""Every connection of a test through PgBouncer: ``pytest -p tests.harness.pooled``.

It pools by transaction: a pooler of sessions would prove nothing.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.pooler import behind, pgbouncer

SETS = "it sets what belongs to a session, and here a session is everybody's"
HOLDS = "its observer holds a lock of its session, and here a session is everybody's"
#: What cannot be meant behind a pooler, and why.
UNMEANT = {
    "test_a_commit_still_in_progress_is_neither_success_nor_failure": HOLDS,
    "test_a_lock_timeout_does_not_keep_a_settlement_from_being_written": SETS,
    "test_a_redelivered_attempt_does_not_wait_for_its_own_commit": HOLDS,
    "test_claims_are_flushed_whatever_the_session_says": SETS,
    "test_in_the_middle_of_a_rotation_a_claim_sees_the_other_deploy_s": SETS,
    "test_of_two_claims_that_no_lock_keeps_apart_the_slower_one_is_busy": SETS,
    "test_the_heartbeat_does_not_disturb_a_settling_block_under_repeatable_read": SETS,
    "test_without_time_zones_the_hour_that_comes_twice_is_none": SETS,
}


@pytest.fixture(scope="session", autouse=True)
def _through_a_pooler(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock(), pgbouncer() as pooler, behind(pooler):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if reason := UNMEANT.get(getattr(item, "originalname", "")):
            item.add_marker(pytest.mark.skip(reason=reason))
