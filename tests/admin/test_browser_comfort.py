"""In a real browser: by keyboard alone, under django-unfold, and in another language."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.admin.records import night
from tests.admin.test_browser import CONTRASTS, SCREENS, follow
from tests.admin.unfold import unfolded as unfolded
from tests.harness.browsers import needs_chromium, page_of

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True)]

#: Whether the element with the focus is told from what is around it.
HAS_FOCUS = """
() => {
  const focused = document.activeElement;
  const before = getComputedStyle(focused);
  const look = (style) => [style.outlineStyle, style.outlineWidth, style.boxShadow,
    style.backgroundColor, style.borderColor, style.textDecorationLine].join();
  const shown = look(before);
  const visible = before.outlineStyle !== 'none' && before.outlineWidth !== '0px';
  focused.blur();
  const changes = look(getComputedStyle(focused)) !== shown;
  focused.focus({focusVisible: true});
  return visible || changes;
}
"""


@pytest.fixture
def browse(request, live_server, admin_client):
    """Run ``steps(page)`` on the list of records. (In a thread: as in ``test_browser``.)"""

    def walk(steps, width, scheme):
        with page_of(admin_client, live_server.url, width=width, scheme=scheme) as page:
            page.goto(f"{live_server.url}/admin/idempotency/idempotencyrecord/")
            steps(page)

    def start(steps, width=1280, scheme="light"):
        with ThreadPoolExecutor(1) as thread:
            thread.submit(walk, steps, width, scheme).result()

    return start


def look(page, name):
    """It fits, and it can be read; SCREENSHOTS names a directory for people who look themselves."""
    if directory := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(directory) / f"{name}.png", full_page=True)
    element = "document.documentElement"
    assert page.evaluate(f"{element}.scrollWidth <= {element}.clientWidth"), name
    for contrast, html in page.evaluate(CONTRASTS):
        assert contrast >= 4.5, html  # WCAG 2.2, 1.4.3, level AA


def tab_to(page, selector):
    """Press Tab until it has the focus, which is visible on each of ours on the way."""
    for _ in range(150):
        page.keyboard.press("Tab")
        if page.evaluate("!!document.activeElement.closest('[class*=idempotency], .settling')"):
            assert page.evaluate(HAS_FOCUS), page.evaluate("document.activeElement.outerHTML")
        if page.evaluate(f"document.activeElement.matches({selector!r})"):
            return
    raise AssertionError(f"{selector} is not reached by Tab")


def press_enter(page):
    with page.expect_navigation():
        page.keyboard.press("Enter")


def test_a_doubt_is_resolved_by_keyboard_alone(browse):
    doubt = night()

    def steps(page):
        tab_to(page, ".idempotency-attention a[href*=in_doubt]")
        press_enter(page)
        tab_to(page, "#result_list tbody th a, #result_list tbody td a")
        press_enter(page)
        tab_to(page, ".settling button")
        assert "It happened" in page.evaluate("document.activeElement.textContent")
        press_enter(page)
        assert page.evaluate("document.activeElement.name") == "reason"
        page.keyboard.type("seen in the log of the mail server")
        press_enter(page)
        page.get_by_text("It happened: 1 record.").wait_for()
        tab_to(page, ".idempotency-text summary")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.parentElement.open")
        tab_to(page, ".idempotency-copy-button")

    browse(steps)
    doubt.refresh_from_db()
    assert doubt.state == "succeeded"


@SCREENS
def test_the_way_from_the_list_to_the_settlement_under_unfold(unfolded, browse, width, scheme):
    night()

    def steps(page):
        look(page, f"unfold-list-{width}-{scheme}")
        follow(page, page.get_by_role("link", name="1 in doubt"))
        follow(page, page.locator("#result_list tbody a:visible").first)
        look(page, f"unfold-record-{width}-{scheme}")
        if width < 640:  # Unfold puts all buttons of a page behind one
            page.get_by_text("more_horiz").first.click()
        with page.expect_navigation():
            page.get_by_role("button", name="It happened").click()
        look(page, f"unfold-settle-{width}-{scheme}")
        page.locator("#id_reason").fill("seen")
        with page.expect_navigation():
            page.locator(".submit-row input").click()
        page.get_by_text("It happened: 1 record.").wait_for()

    browse(steps, width, scheme)


def test_the_widest_language_fits_a_phone(browse, settings):
    settings.LANGUAGE_CODE = "de"
    night()

    def steps(page):
        look(page, "list-390-de")
        follow(page, page.get_by_role("link", name="1 ungeklärt"))
        follow(page, page.locator("#result_list tbody a").first)
        look(page, "record-390-de")
        with page.expect_navigation():
            page.get_by_role("button", name="Es ist geschehen").click()
        look(page, "settle-390-de")

    browse(steps, 390)
