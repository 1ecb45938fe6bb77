"""``python -m notifications.demo.serve``: the admin, a worker and a mail server, until Ctrl-C.

They work on the data that the demo has left, if it was run, and begin with a bad night of their
own: there is always something that needs somebody. ``PORT`` moves the admin from port 8000.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Empty

import django
from django.core.management import call_command

from notifications.demo import login
from notifications.demo.mailserver import MailServer
from notifications.demo.screen import Screen
from notifications.demo.workers import SHOWN, Worker, stop_all
from project import services
from project.servers import dies_with_parent

PORT = "8000"
QUEUE = "celery"
TICK = 0.2
NIGHT_SECONDS = 180
STOP_SECONDS = 10


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m notifications.demo.serve")
    parser.add_argument("--throwaway", action="store_true", help="keep nothing afterwards")
    throwaway = parser.parse_args().throwaway
    services.end_in_order()
    screen, mail = Screen(), MailServer()
    port = os.environ.get("PORT") or PORT
    try:
        _refuse_taken(port)
        with ExitStack() as stack:
            kept = services.lasting_state()
            state = stack.enter_context(services.throwaway_state()) if throwaway else kept
            servers = stack.enter_context(services.running(state))
            os.environ.update(servers.environment(), DJANGO_SETTINGS_MODULE="project.settings")
            os.environ.update(SHOWN, EMAIL_PORT=str(mail.start()))
            stack.callback(mail.stop)
            _prepare(login.password(state))
            worker = stack.enter_context(_worker(state))
            site = stack.enter_context(_site(port, state))
            watch = _watch(mail, site, screen)
            keys = _let_the_night_fall(mail, worker, watch, screen)
            _say_where_to_look(port, state, keys, screen)
            while True:
                watch()
                time.sleep(TICK)
    except KeyboardInterrupt:
        screen.say("\nStopped. No process is left.")
        return 0
    except (OSError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _refuse_taken(port: str) -> None:
    """Before anything is published that would wait for the next start."""
    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind(("127.0.0.1", int(port)))
        except OSError as error:
            raise RuntimeError(
                f"Port {port} is taken. Another one: make serve PORT=8001"
            ) from error


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
def _worker(state: Path) -> Iterator[Worker]:
    worker = Worker("serve", queue=QUEUE, log=state / "serve.log", environment=os.environ)
    try:
        worker.start()
        yield worker
    finally:
        with services.undisturbed():
            stop_all([worker], at_once=False)


@contextmanager
def _site(port: str, state: Path) -> Iterator[subprocess.Popen[bytes]]:
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
        yield site
    finally:
        with services.undisturbed():
            site.terminate()
            site.wait(STOP_SECONDS)


def _watch(mail: MailServer, site: subprocess.Popen[bytes], screen: Screen) -> Callable[[], None]:
    """Prints the mails and the kills since it was called last.

    It raises ``RuntimeError`` when the site has ended by itself.
    """
    printed = 0

    def watch() -> None:
        nonlocal printed
        for taken in mail.journal[printed:]:
            screen.say(f"  mail to {taken.recipient:<20} {taken.message_id}")
            printed += 1
        try:
            while incident := mail.trouble.incidents.get_nowait():
                screen.say(f"  kill -9 {incident.pid}, while it sends to {incident.recipient}")
        except Empty:
            pass
        if site.poll() is not None:
            raise RuntimeError("The site has ended by itself; see the logs.")

    return watch


def _let_the_night_fall(
    mail: MailServer, worker: Worker, watch: Callable[[], None], screen: Screen
) -> dict[str, str]:
    """Returns the key of each recipient's mail."""
    from notifications.demo.night import Night

    screen.say("Five mails are sent on a bad night. What the mail server takes, and who is killed:")
    end = time.monotonic() + NIGHT_SECONDS

    def wait_until(holds: Callable[[], bool]) -> None:
        while not holds():
            watch()
            if time.monotonic() > end:
                raise RuntimeError(f"The night did not end in {NIGHT_SECONDS} s; see the logs.")
            time.sleep(TICK)

    night = Night(mail, worker, QUEUE)
    night.fall(wait_until)
    watch()
    return {name.partition("@")[0]: str(sent.pk) for name, sent in night.messages.items()}


def _say_where_to_look(port: str, state: Path, keys: dict[str, str], screen: Screen) -> None:
    screen.say(f"""
Look at it:   http://127.0.0.1:{port}/ (login {login.USER}, password {login.password(state)})
In doubt:     {keys["ben"]}, Ben's mail. It is listed above: say "It happened", and what waits
              is answered.
              {keys["clara"]}, Clara's. It is not: say "It did not happen", and it is sent below.
Failed:       {keys["david"]}, David's. His address was refused, so it was certainly not sent.
More:         .venv/bin/python manage.py send_messages FILE
Logs:         {state}/serve.log, site.log
Ctrl-C stops everything. What the mail server takes from now on:""")


if __name__ == "__main__":
    sys.exit(main())
