"""What the walk happens on: a site, a worker, a mail server, and operators with their browsers."""

import os
import re
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from django.contrib.auth.models import Permission, User
from django.db import connection
from pytest_django.live_server_helper import LiveServer

from notifications.demo.mailserver import MailServer
from notifications.demo.night import Night
from notifications.demo.workers import SHOWN, Worker
from tests.admin.test_browser import CONTRASTS, follow
from tests.harness.processes import database_url
from tests.harness.waiting import wait_until
from tests.harness.workers import Queue

LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
PICTURES = {
    "attention-1280-light": 660,
    "doubt-1280-light": 860,
    "it-happened-1280-light": 640,
    "settled-390-dark": 860,
}
"""What the docs show, and how much of it: pixels from above."""
# What goes on where nobody sees it: a page wider than its window, a text wider than its part.
CUT = """
() => [document.documentElement, ...document.querySelectorAll('.readonly, .idempotency-story')]
  .filter((element) => element.scrollWidth > element.clientWidth + 1 && element.clientWidth ||
    element.getBoundingClientRect().right >
      (element.closest('.module') || element).getBoundingClientRect().right + 1)
  .map((element) => element.outerHTML.slice(0, 300))
"""
ACTS = ("view", "resolve", "release", "allow_again", "purge")
# Generous: on a machine that does other things too, what takes five seconds takes fifty.
wait = partial(wait_until, seconds=120)


def strict(get_response):
    """A middleware: the strictest policy that lets a site have files."""

    def answer(request):
        response = get_response(request)
        response["Content-Security-Policy"] = "default-src 'self'"
        return response

    return answer


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Within the block a process does nothing; then it goes on as if nothing had happened."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Operator:
    """Somebody who may do all of it, with a browser of their own."""

    def __init__(self, browser, site: LiveServer, name: str) -> None:
        user = User.objects.create_user(name, password=name, is_staff=True)
        codenames = [f"{act}_idempotencyrecord" for act in ACTS]
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        self.site = site
        context = browser.new_context()
        context.set_default_timeout(120_000)  # ms
        self.page = context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console", lambda line: "Policy" in line.text and self.errors.append(line.text)
        )
        self.home()
        self.page.get_by_label("Username").fill(name)
        self.page.get_by_label("Password").fill(name)
        follow(self.page, self.page.get_by_role("button", name="Log in"))

    def home(self) -> None:
        """What is seen first."""
        self.page.goto(f"{self.site.url}/")

    def search(self, text: str) -> int:
        """How many records the search box finds."""
        self.home()
        self.page.locator("#searchbar").fill(text)
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")
        return self.page.locator("#result_list tbody tr").count()

    def find(self, text: str) -> None:
        """Search for the one record, and open it."""
        assert self.search(text) == 1, text
        self.open()

    def needs(self, what: str) -> None:
        """Follow a link of what needs attention."""
        follow(self.page, self.page.locator(".idempotency-attention a", has_text=what))

    def row(self, key: str):
        """The row of a record, by the key that it shows."""
        shown = self.page.locator(".idempotency-detail", has_text=re.compile(rf"^{key}$"))
        return self.page.locator("#result_list tbody tr", has=shown)

    def open(self, key: str | None = None) -> None:
        """A record of the list; the first one, unless a key is given."""
        rows = self.page.locator("#result_list tbody tr").first if key is None else self.row(key)
        follow(self.page, rows.locator("th a"))

    def press(self, label: str) -> None:
        """A button on the page of a record: the page that asks."""
        follow(self.page, self.page.get_by_role("button", name=f"{label}…"))

    def confirm(self, reason: str, **fields: str) -> list[str]:
        """Fill in the page that asks, and send it: what is said then."""
        self.fill(reason, **fields)
        follow(self.page, self.page.locator(".submit-row input"))
        return self.said()

    def fill(self, reason: str, **fields: str) -> None:
        for name, value in ({"reason": reason} | fields).items():
            self.page.locator(f"#id_{name}").fill(value)

    def said(self) -> list[str]:
        """The messages on the page."""
        return self.page.locator(".messagelist li").all_inner_texts()

    def wait_until_said(self) -> list[str]:
        self.page.locator(".messagelist li").first.wait_for()
        return self.said()

    def text(self, part: str = "#content") -> str:
        return self.page.locator(part).inner_text()

    def told(self) -> list[str]:
        """The titles of a record's story."""
        return self.page.locator(".idempotency-story > li strong").all_inner_texts()

    def look(self, name: str) -> None:
        """The page fits and can be read, on a desktop and a phone, in light and in dark.

        SCREENSHOTS names a directory for people who look themselves, PICTURES that of the docs.
        """
        for width, scheme in LOOKS:
            self.page.set_viewport_size({"width": width, "height": 900})
            self.page.emulate_media(color_scheme=scheme)
            # Django's links fade from one colour to the other.
            self.page.evaluate("document.getAnimations().forEach((each) => each.finish())")
            look = f"{name}-{width}-{scheme}"
            if directory := os.environ.get("SCREENSHOTS"):
                self.page.screenshot(path=Path(directory) / f"{look}.png", full_page=True)
            if (directory := os.environ.get("PICTURES")) and look in PICTURES:
                part = {"x": 0, "y": 0, "width": width, "height": PICTURES[look]}
                self.page.screenshot(path=Path(directory) / f"admin-{name}.png", clip=part)
            assert self.page.evaluate(CUT) == [], look
            for contrast, html in self.page.evaluate(CONTRASTS):
                assert contrast >= 4.5, html  # WCAG 2.2, 1.4.3, level AA
        self.at_the_desk()

    def at_the_desk(self) -> None:
        """On a desktop, in light."""
        self.page.set_viewport_size({"width": 1280, "height": 900})
        self.page.emulate_media(color_scheme="light")


class Stage:
    """A bad night has fallen on it."""

    def __init__(self, browser, site: LiveServer, mail: MailServer, worker: Worker, queue: str):
        self.browser = browser
        self.site = site
        self.mail = mail
        self.worker = worker
        self.night = Night(mail, worker, queue)
        self.night.fall(partial(wait, what="the night to be over"))
        self.ada = Operator(browser, site, "ada")

    def copies(self, recipient: str) -> int:
        """How many copies a recipient has got, says the mail server."""
        return Counter(mail.recipient for mail in list(self.mail.journal))[recipient]

    def raw_key(self, recipient: str) -> str:
        return str(self.night.messages[recipient].pk)

    def length(self) -> int:
        return Queue(self.night.queue).length()

    def wait_for_status(self, recipient: str, status: str) -> None:
        wait(
            lambda: self.night.status(recipient) == status,
            f"the mail to {recipient} to be {status}",
        )

    @contextmanager
    def held(self, recipient: str) -> Iterator[int]:
        """Within the block a process waits for the mail server's answer: its pid.

        At the end the server takes the mail, if its sender is still there, and says so.
        """
        trouble = self.mail.trouble
        trouble.hold(self.worker.pid)
        try:
            self.night.deliver(recipient)
            [pid] = wait(lambda: set(trouble.waiting), "a mail on its way")
            yield pid
        finally:
            trouble.release(self.worker.pid)


@contextmanager
def worker_of(queue: str, mail: MailServer, log: Path) -> Iterator[Worker]:
    environment = (
        os.environ
        | SHOWN
        | {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": database_url(),
            "TEST_QUEUE": queue,
            "EMAIL_PORT": str(mail.start()),
        }
    )
    worker = Worker("walk", queue=queue, log=log, environment=environment)
    try:
        worker.start()
        yield worker
    finally:
        worker.kill()
        mail.stop()
        wait(_is_alone, "the worker's sessions to end")


def _is_alone() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return cursor.fetchone() == (0,)


def new_queue() -> str:
    return f"walk-{uuid.uuid4().hex}"
