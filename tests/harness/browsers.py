"""Chromium, as every test of a page opens it; a module that imports this is skipped without it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.test import Client

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip(
    "playwright.sync_api", reason="SKIPPED, nobody looked at the admin: Playwright is missing."
)
_PROGRAM = os.environ.get("CHROMIUM") or shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    _PROGRAM is None, reason="SKIPPED, nobody looked at the admin: Chromium is missing."
)
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]


@contextmanager
def chromium() -> Iterator["Browser"]:
    """A browser, closed with the block."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=_PROGRAM, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_of(
    client: Client, url: str, *, width: int, scheme: str, **options: Any
) -> Iterator["Page"]:
    """An empty page of a browser in which the client's user is logged in to the site at *url*."""
    name = settings.SESSION_COOKIE_NAME
    with chromium() as browser:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, **options
        )
        context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": url}])
        yield context.new_page()
