"""``python -m notifications.demo.serve``: the admin, a worker and a mail server, until Ctrl-C.

They work on the data that the demo has left. ``PORT`` moves the admin from port 8000.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import django
from django.core.management import call_command

from notifications.demo import login
from notifications.demo.mailserver import MailServer
from notifications.demo.screen import Screen
from notifications.demo.workers import Worker, stop_all
from project import services
from project.servers import dies_with_parent

PORT = "8000"
TICK = 0.2
STOP_SECONDS = 10


def main() -> int:
    """The command line; returns the exit status."""
    services.end_in_order()
    screen, mail = Screen(), MailServer()
    try:
        with ExitStack() as stack:
            servers = stack.enter_context(services.running(services.lasting_state()))
            os.environ.update(servers.environment(), DJANGO_SETTINGS_MODULE="project.settings")
            os.environ["EMAIL_PORT"] = str(mail.start())
            stack.callback(mail.stop)
            state = servers.postgresql.state
            _prepare(login.password(state))
            stack.enter_context(_worker(state))
            site = stack.enter_context(_site(os.environ.get("PORT") or PORT, screen, state))
            return _print_mails(mail, screen, site)
    except KeyboardInterrupt:
        return 0
    except (OSError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _prepare(password: str) -> None:
    django.setup()
    call_command("migrate", verbosity=0)
    # Models can be imported from here on only.
    from django.contrib.auth import get_user_model

    users = get_user_model().objects
    user, _ = users.get_or_create(
        username=login.USER, defaults={"is_staff": True, "is_superuser": True}
    )
    user.set_password(password)
    user.save()


@contextmanager
def _worker(state: Path) -> Iterator[None]:
    worker = Worker("serve", queue="celery", log=state / "serve.log", environment=os.environ)
    try:
        worker.start()
        yield
    finally:
        with services.undisturbed():
            stop_all([worker], at_once=False)


@contextmanager
def _site(port: str, screen: Screen, state: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"]
    with (state / "site.log").open("wb") as log:
        site = subprocess.Popen(  # noqa: S603 our own command line
            command,
            cwd=services.CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=dies_with_parent(signal.SIGKILL),
        )
    try:
        screen.say(f"Admin:          http://127.0.0.1:{port}/admin/")
        screen.say(f"Login:          {login.USER}, password {login.password(state)}")
        screen.say("Send a file:    .venv/bin/python manage.py send_messages FILE")
        screen.say(f"Logs:           {state}/serve.log, site.log")
        screen.say("Ctrl-C stops everything. Mails are printed as they come:")
        yield site
    finally:
        with services.undisturbed():
            site.terminate()
            site.wait(STOP_SECONDS)


def _print_mails(mail: MailServer, screen: Screen, site: subprocess.Popen[bytes]) -> int:
    printed = 0
    while site.poll() is None:
        for taken in mail.journal[printed:]:
            screen.say(f"  {taken.recipient}  {taken.message_id}")
            printed += 1
        time.sleep(TICK)
    screen.say("The site has ended by itself; its log says why (is the port taken? PORT=8001).")
    return 1


if __name__ == "__main__":
    sys.exit(main())
