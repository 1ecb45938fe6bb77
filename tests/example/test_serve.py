"""What ``make serve`` leads to: a page with something to settle, also where no demo was run."""

import re
import signal
import sys
from http.cookiejar import CookieJar
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

import pytest

from project.servers import free_port
from tests.harness.programs import descendants, program, said_until, state_of, wait_gone


def logged_in(address, user, password):
    """The page that an address leads to, as a browser gets it after the login."""
    browser = build_opener(HTTPCookieProcessor(CookieJar()))
    with browser.open(address, timeout=60) as asked:
        form, here = asked.read().decode(), asked.url
    [token] = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    [leads_to] = re.findall(r'name="next" value="([^"]+)"', form)
    sent = {"csrfmiddlewaretoken": token, "next": leads_to, "username": user, "password": password}
    with browser.open(here, urlencode(sent).encode(), timeout=60) as answer:
        return answer.url, answer.read().decode()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_it_lands_on_what_needs_somebody_and_ends_without_a_trace():
    with program("notifications.demo.serve", "--throwaway", PORT=free_port()) as process:
        said = said_until(process, "Ctrl-C")
        processes = descendants(process.pid)
        state = state_of(processes)
        [(address, user, password)] = re.findall(
            r"(http://\S+) \(login (\w+), password (\S+)\)", said
        )
        url, page = logged_in(address, user, password)
        process.send_signal(signal.SIGINT)
        said += process.stdout.read()
    assert process.returncode == 0, said
    assert url.endswith("/admin/idempotency/idempotencyrecord/")
    for what in ("2 in doubt", "1 failed", "3 parked messages"):
        assert what in page
    assert re.search(r"kill -9 \d+, while it sends to ben@example.com", said)
    assert re.findall(r"mail to (\w+)@", said).count("ben") == 1
    assert "mail to clara@" not in said
    assert not state.exists()
    wait_gone(processes)
