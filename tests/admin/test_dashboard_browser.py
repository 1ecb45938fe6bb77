"""The dashboard in a real browser: it fits, it can be read, and its drawings are drawn."""

from random import Random

import pytest

from idempotency.models import IdempotencyEvent
from tests.admin.records import HOSTILE, ago, event, made, night

browser = pytest.importorskip("tests.admin.test_browser", exc_type=pytest.skip.Exception)
pytestmark = browser.pytestmark
browse = browser.browse


def a_busy_day():
    night()
    random = Random(3)
    names = ["notifications.tasks.send_message", "billing.charge", "stripe-webhook", HOSTILE]
    for number in range(300):
        hour = random.triangular(0, 24, 9)
        row = made(created_at=ago(hours=hour), scope=random.choice(names[: 1 + number % 4]))
        if number % 6 == 0:
            event(
                row, "duplicate", at=ago(hours=hour * random.random()), redelivered=number % 4 == 0
            )
        if number % 25 == 0:
            event(row, "failed", at=ago(hours=hour))
            event(row, "deferred", at=ago(hours=hour))
    made(expires_at=ago(days=3))


@browser.SCREENS
def test_the_dashboard_is_drawn_without_script(browse, width, scheme):
    a_busy_day()
    answered = IdempotencyEvent.objects.filter(kind="duplicate", at__gt=ago(hours=24)).count()

    def steps(page):
        browser.follow(page, page.get_by_role("link", name="Dashboard"))
        browser.judge(page, f"dashboard-{width}-{scheme}")
        drawings = page.get_by_role("img", name="Duplicates absorbed per hour")
        assert drawings.count() == 1
        bars = drawings.locator("rect")
        heights = [bars.nth(number).bounding_box()["height"] for number in range(bars.count())]
        assert len(set(heights)) > 1
        assert page.get_by_text(f"{answered} duplicates absorbed").is_visible()
        page.get_by_text("Hour by hour").click()
        assert page.locator("details tbody tr").count() == 24

    browse(steps, width, scheme)
