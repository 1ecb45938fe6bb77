"""The admin in a real browser: what an operator sees and does at night."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.admin.records import HOSTILE, made, night
from tests.harness.browsers import needs_chromium, page_of

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True)]

SCREENS = pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
)

# Every element with a text of its own: its colour, and those behind it.
CONTRASTS = """
() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const numbers = (colour) => {  // painted, since it may be given as oklch() or lab()
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, alpha / 255];
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const [r, g, b, alpha = 1] = numbers(getComputedStyle(each).backgroundColor);
      if (alpha === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const ours = document.querySelectorAll('[class*="idempotency-"], [class*="idempotency-"] *');
  return [...ours].filter((element) => element.checkVisibility() && [...element.childNodes].some(
    (node) => node.nodeType === 3 && node.textContent.trim())).map((element) => {
    const a = light(numbers(getComputedStyle(element).color).slice(0, 3));
    const b = light(behind(element));
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.outerHTML];
  });
}
"""


def strictly(route):
    """Under the strictest policy that lets a site have files."""
    response = route.fetch()
    policy = {"content-security-policy": "default-src 'self'"}
    route.fulfill(response=response, headers=response.headers | policy)


@pytest.fixture
def browse(live_server, admin_client):
    """Run ``steps(page)`` on the list of records, as its operator.

    In a thread of its own: Playwright's loop runs in its thread, where Django refuses to work.
    (docs.djangoproject.com/en/5.2/topics/async, "Async safety")
    """

    def walk(steps, width, scheme):
        allowed = ["clipboard-read", "clipboard-write"]
        look = {"width": width, "scheme": scheme, "permissions": allowed}
        errors = []
        with page_of(admin_client, live_server.url, **look) as page:
            page.on("pageerror", lambda error: errors.append(error))
            page.on("dialog", lambda dialog: errors.append(dialog.message))
            page.on("console", lambda line: "Policy" in line.text and errors.append(line.text))
            page.route("**/*", strictly)
            page.goto(f"{live_server.url}/admin/idempotency/idempotencyrecord/")
            steps(page)
        assert errors == []

    def start(steps, width=1280, scheme="light"):
        with ThreadPoolExecutor(1) as thread:
            thread.submit(walk, steps, width, scheme).result()

    return start


def judge(page, name):
    """It fits, and it can be read; SCREENSHOTS names a directory for people who look themselves."""
    if directory := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(directory) / f"{name}.png", full_page=True)
    for element in ("document.documentElement", "document.querySelector('.results')"):
        assert page.evaluate(f"!{element} || {element}.scrollWidth <= {element}.clientWidth"), name
    told = page.evaluate(CONTRASTS)
    assert told
    for contrast, html in told:
        assert contrast >= 4.5, html  # WCAG 2.2, 1.4.3, level AA


def follow(page, link):
    """Until the next page is there: a click alone does not wait for it."""
    with page.expect_navigation():
        link.click()


@SCREENS
def test_the_way_from_the_list_to_what_happened(browse, width, scheme):
    doubt = night()

    def steps(page):
        judge(page, f"list-{width}-{scheme}")
        follow(page, page.get_by_role("link", name="1 in doubt"))
        assert page.locator("#result_list tbody tr").count() == 1
        follow(page, page.locator("#result_list tbody a").first)
        judge(page, f"record-{width}-{scheme}")
        story = page.locator(".idempotency-story > li")
        told = "First attempt, Failed, Claimed, Taken over, The effect begins, In doubt, Deferred"
        assert story.locator("strong").all_inner_texts()[:7] == told.split(", ")
        page.locator("summary", has_text="Error").click()
        assert page.get_by_text("the read operation timed out").is_visible()

    browse(steps, width, scheme)
    assert doubt.key is not None


def test_a_hash_is_copied_and_found_again(browse):
    doubt = night()

    def steps(page):
        follow(page, page.get_by_role("link", name="1 in doubt"))
        follow(page, page.locator("#result_list tbody a").first)
        page.locator(".field-shown_hash button").click()
        page.get_by_role("button", name="Copied").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == doubt.key_hash.hex
        follow(page, page.get_by_role("link", name="Records").first)
        page.locator("#searchbar").fill(copied)
        with page.expect_navigation():
            page.keyboard.press("Enter")
        assert page.locator("#result_list tbody tr").count() == 1

    browse(steps)


def test_where_the_browser_copies_nothing_the_text_is_selected(browse):
    doubt = night()

    def steps(page):
        follow(page, page.get_by_role("link", name="1 in doubt"))
        follow(page, page.locator("#result_list tbody a").first)
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject('no') }")
        page.locator(".field-shown_hash button").click()
        page.wait_for_function("getSelection().toString() !== ''")
        assert page.evaluate("getSelection().toString()") == doubt.key_hash.hex

    browse(steps)


def test_what_a_job_has_written_runs_nowhere(browse):
    made("failed", scope="shop.ship", error_class=f"a.{HOSTILE}", error_message=HOSTILE)

    def steps(page):
        follow(page, page.locator("#result_list tbody a").first)
        page.locator("summary", has_text="Error").click()
        assert page.locator("details pre").inner_text() == HOSTILE

    browse(steps)
