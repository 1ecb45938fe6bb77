"""What only a server can tell: each finding from a server that is really like this."""

import io
import json
import os
import socket
import subprocess
import sys
import uuid
from datetime import timedelta

import pytest
from celery import Celery
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import override_settings
from django.utils import timezone
from kombu.transport import TRANSPORT_ALIASES

from idempotency import Leased, OnDoubt, Verdict, execute
from idempotency.contrib import celery_doctor
from idempotency.digests import digest
from idempotency.doctor import examine_database
from idempotency.exceptions import InDoubt
from idempotency.models import IdempotencyRecord
from idempotency.resolution import resolve
from project.postgresql import PostgreSQL
from project.services import throwaway_state
from tests.harness.brokers import BROKERS
from tests.harness.pooler import pgbouncer
from tests.harness.processes import ROOT, database_url
from tests.operations.test_celery_checks import Current

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "asked"])

HOLD = Leased(on_doubt=OnDoubt.HOLD)
#: The tasks of the tests wait for gates, and have no time limit.
OURS = "idempotency.W005"


def said(using="default"):
    """What is found, by its number."""
    return {found.id.removeprefix("idempotency."): found.msg for found in examine_database(using)}


def doctor(*arguments):
    """Its output and what it complains of; None when nothing needs attention."""
    output, complaint = io.StringIO(), None
    try:
        with override_settings(SILENCED_SYSTEM_CHECKS=[OURS]):
            call_command("idempotency_doctor", *arguments, stdout=output, no_color=True)
    except CommandError as error:
        complaint = str(error)
    return output.getvalue(), complaint


def execute_sql(*statements):
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


# -- the command -----------------------------------------------------------------------------------


def test_a_project_that_is_right_needs_no_attention():
    output, complaint = doctor()
    [info, verdict] = output.splitlines()
    assert info.startswith("info    idempotency.I004: The database 'default' is PostgreSQL 1")
    assert verdict == "Nothing is wrong."
    assert complaint is None


def test_each_finding_is_one_line_with_its_id_and_what_to_type(alias):
    output, complaint = doctor("--database", alias(options={"isolation_level": 3}))
    lines = output.splitlines()
    assert lines[0].startswith("warning idempotency.W021: Transactions on 'asked' are REPEATABLE")
    assert lines[0].endswith("See docs/reference/checks.md#idempotencyw021")
    assert complaint == "1 of these need attention."


def test_what_the_settings_say_the_server_does_not_say_again(alias):
    with override_settings(IDEMPOTENCY={"DATABASE": alias(options={"isolation_level": 3})}):
        output, _ = doctor()
    assert output.count("W021") == 1


def test_json_holds_the_same(alias):
    output, complaint = doctor("--json", "--database", alias(options={"isolation_level": 4}))
    findings = json.loads(output)["findings"]
    assert [(each["id"], each["level"]) for each in findings] == [
        ("idempotency.W021", "warning"),
        ("idempotency.I004", "info"),
    ]
    assert "SERIALIZABLE" in findings[0]["message"]
    assert "isolation_level" in findings[0]["hint"]
    assert complaint


def test_settings_that_cannot_be_read_are_all_that_is_said():
    with override_settings(IDEMPOTENCY={"LEESE": 1}):
        output, complaint = doctor()
    assert "E002" in output
    assert complaint == "1 of these need attention."


def test_an_alias_that_nobody_knows_is_refused():
    _, complaint = doctor("--database", "nowhere")
    assert complaint.startswith("There is no database alias 'nowhere'. Known are: default")


def test_a_database_without_a_storage_is_named_before_anything_is_asked(alias):
    output, _ = doctor("--database", alias(ENGINE="django.db.backends.dummy"))
    assert "E005: The database 'asked' has no ENGINE" in output
    assert "E006" not in output


def test_checks_for_deployment_are_run_too():
    mailer = {"BACKEND": "django.core.mail.backends.smtp.EmailBackend"}
    with override_settings(MAILERS={"default": mailer}):
        assert "idempotency.W017" in doctor()[0]


@pytest.mark.parametrize(
    ("environment", "status", "says"),
    [
        ({}, 0, "Nothing is wrong."),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, 1, "E011"),
        ({"CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}, 1, "E014"),
        ({"LEASE_SECONDS": "0"}, 1, "error   idempotency.E003:"),
    ],
)
def test_the_example_project_is_right_and_its_faults_are_sentences(environment, status, says):
    ran = subprocess.run(
        [sys.executable, "-m", "django", "idempotency_doctor", "--broker"],
        cwd=ROOT,
        env=os.environ
        | {"DJANGO_SETTINGS_MODULE": "project.settings", "DATABASE_URL": database_url()}
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert says in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr


# -- the database ----------------------------------------------------------------------------------


def test_a_closed_port_is_a_sentence(alias):
    assert said(alias(PORT="1")).keys() == {"E011"}


def test_a_password_that_is_wrong_is_a_sentence(alias):
    assert "password authentication failed" in said(alias(PASSWORD="wrong"))["E011"]


def test_options_that_django_refuses_are_a_sentence(alias):
    using = alias(options={"isolation_level": 99})
    assert "Invalid transaction isolation level 99" in said(using)["E011"]


@pytest.mark.parametrize(
    ("pool", "says"),
    [({"max_size": 2}, "max_size must be"), ({"maximum": 2}, "unexpected keyword argument")],
)
def test_a_pool_that_is_refused_is_a_sentence(pool, says, alias):
    using = alias(options={"pool": pool}, CONN_MAX_AGE=0)
    assert says in said(using)["E011"]
    connections[using].settings_dict["OPTIONS"].pop("pool")  # there is none to close


def test_a_table_that_is_missing_is_a_sentence_and_the_last_one():
    execute_sql("ALTER TABLE idempotency_record RENAME TO elsewhere")
    try:
        assert said().keys() == {"I004", "E006"}
    finally:
        execute_sql("ALTER TABLE elsewhere RENAME TO idempotency_record")


def test_a_constraint_that_was_dropped_is_an_error():
    name = "idempotency_record_key_hash"
    execute_sql(f"ALTER TABLE idempotency_record DROP CONSTRAINT {name}")
    try:
        assert f"no unique constraint {name}" in said()["E006"]
    finally:
        execute_sql(f"ALTER TABLE idempotency_record ADD CONSTRAINT {name} UNIQUE (key_hash)")


@pytest.mark.parametrize(
    ("setting", "number", "says"),
    [
        ("default_transaction_isolation=serializable", "W021", "SERIALIZABLE"),
        ("default_transaction_read_only=on", "E012", "only lets read"),
        ("synchronous_commit=off", "W025", "is off on"),
        ("synchronous_commit=local", "W025", "is local on"),
        ("idle_in_transaction_session_timeout=5min", "I002", "is 5min on"),
    ],
)
def test_what_the_server_or_the_role_is_set_to_is_named(setting, number, says, alias):
    found = said(alias(options={"options": f"-c {setting}"}))
    assert says in found.pop(number)
    assert found.keys() == {"I004"}


@pytest.mark.parametrize("level", ["on", "remote_write", "remote_apply"])
def test_a_commit_that_is_on_disk_is_not_named(level, alias):
    assert said(alias(options={"options": f"-c synchronous_commit={level}"})).keys() == {"I004"}


@pytest.fixture
def role():
    """A role of its own, which may nothing by itself."""
    name = f"test_{uuid.uuid4().hex}"
    execute_sql(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    yield name
    execute_sql(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


TABLES = "idempotency_record, idempotency_event, idempotency_parked_message"


def test_rights_that_a_role_lacks_are_named(role, alias):
    as_role = alias(USER=role, PASSWORD="secret")
    assert "SELECT on idempotency_record, INSERT on" in said(as_role)["E013"]
    execute_sql(
        f"GRANT SELECT, INSERT ON {TABLES} TO {role}",
        f"GRANT UPDATE ON idempotency_record TO {role}",
    )
    assert said(as_role)["E013"].endswith("lacks DELETE on idempotency_parked_message.")
    execute_sql(f"GRANT DELETE ON idempotency_parked_message TO {role}")
    assert said(as_role).keys() == {"I004"}
    for _ in ("run", "replay"):
        assert execute(lambda: 7, key=1, scope="test", using=as_role).result == 7
        with pytest.raises((TimeoutError, InDoubt)):
            execute(raise_timeout, key=2, scope="test", policy=HOLD, using=as_role)
    resolve(digest(2, scope="test").hashes[0], Verdict.happened(), reason="seen", using=as_role)


def test_a_role_with_one_connection_has_none_for_the_heartbeat(role, alias):
    execute_sql(f"ALTER ROLE {role} CONNECTION LIMIT 1", f"GRANT ALL ON {TABLES} TO {role}")
    assert "too many connections" in said(alias(USER=role, PASSWORD="secret"))["W026"]


def test_a_pool_of_one_has_none_for_the_heartbeat_either(alias):
    options = {"pool": {"min_size": 1, "max_size": 1, "timeout": 1}}
    assert "W026" in said(alias(options=options, CONN_MAX_AGE=0))


def test_locks_that_do_not_exclude_are_named(alias):
    """Some engines that speak PostgreSQL's protocol have the function, and it locks nothing."""
    execute_sql(
        "CREATE SCHEMA shadow",
        "CREATE FUNCTION shadow.pg_try_advisory_xact_lock(bigint) RETURNS boolean "
        "LANGUAGE sql AS 'SELECT true'",
    )
    try:
        path = "-c search_path=shadow,pg_catalog,public"
        assert "do not exclude" in said(alias(options={"options": path}))["W027"]
    finally:
        execute_sql("DROP SCHEMA shadow CASCADE")


def test_a_standby_is_named(alias):
    with throwaway_state() as state:
        server = PostgreSQL(state)
        try:
            server.start()
            server.stop()
            (state / "postgresql" / "standby.signal").touch()
            server.start()
            password = server.url.partition("postgres:")[2].partition("@")[0]
            found = said(alias(NAME="postgres", PORT=str(server.port), PASSWORD=password))
        finally:
            server.stop()
    assert "follows another server" in found["E012"]


@pytest.mark.parametrize(
    ("mode", "prepare", "numbers"),
    [
        ("transaction", None, {"I004"}),
        ("session", 5, {"I004", "W028"}),
        ("statement", None, {"E011"}),
    ],
)
def test_a_pooler_is_seen_and_must_leave_transactions_whole(mode, prepare, numbers, alias):
    options = {} if prepare is None else {"prepare_threshold": prepare}
    with pgbouncer(pool_mode=mode) as pooler:
        found = said(alias(PORT=str(pooler.port), options=options))
    assert found.keys() == numbers
    assert mode == "statement" or "through a pooler" in found["I004"]


def test_prepared_statements_are_nobody_s_business_without_a_pooler(alias):
    assert said(alias(options={"prepare_threshold": 5})).keys() == {"I004"}


def test_a_sqlite_database_is_asked_what_it_can_tell(alias, tmp_path):
    using = alias(like="sqlite", NAME=str(tmp_path / "db"))
    assert said(using).keys() == {"E006"}
    call_command("migrate", database=using, verbosity=0)
    assert said(using) == {}


# -- the records -----------------------------------------------------------------------------------


def test_records_that_nobody_deletes_are_named():
    execute(lambda: None, key=1, scope="old")
    records = IdempotencyRecord.objects.all()
    records.update(expires_at=timezone.now() - timedelta(days=7))
    assert said().keys() == {"I004"}
    records.update(expires_at=timezone.now() - timedelta(days=9))
    assert "1 records in 'default' are forgotten, the oldest for 9 days" in said()["W029"]


def raise_timeout():
    raise TimeoutError


def test_a_doubt_that_waits_is_named():
    with pytest.raises(TimeoutError):
        execute(raise_timeout, key=1, scope="test", policy=HOLD)
    found = said()
    assert "1 records in 'default' are in doubt or exhausted" in found.pop("W030")
    assert found.keys() == {"I004"}


def test_a_death_of_which_nobody_was_told_is_named():
    def body():
        past = timezone.now() - timedelta(hours=1)
        IdempotencyRecord.objects.update(lease_expires_at=past)
        return said()

    found = execute(body, key=1, scope="test", policy=HOLD).result
    assert "1 jobs in 'default' ended in the middle" in found.pop("W031")
    assert found.keys() == {"I004"}


# -- the broker ------------------------------------------------------------------------------------


@pytest.fixture
def broker(monkeypatch):
    """Let the current application be one with this broker."""

    def use(url, options):
        app = Celery(broker=url, set_as_current=False)
        app.conf.broker_transport_options = options
        monkeypatch.setattr(celery_doctor, "current_app", Current(app))

    monkeypatch.delenv("CELERY_BROKER_URL")  # Celery prefers it
    return use


@pytest.mark.xdist_group("servers")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("valkey", "again after 6 s, and says that it did"),
        ("rabbitmq", "again when the connection of its worker ends, and says that it did"),
        ("pgmq", "again after 6 s, and does not say that it did"),
        ("sqs", "again after 6 s, and does not say that it did"),
    ],
)
def test_a_broker_that_answers_tells_its_rule(name, says, broker, monkeypatch):
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "x")
    with BROKERS[name]() as real:
        broker(real.url, real.options)
        [found] = celery_doctor.examine_broker(10)
    assert found.id == "idempotency.I003", found
    assert says in found.msg


@pytest.mark.parametrize("scheme", ["redis", "amqp", "sqs"])
def test_a_closed_port_of_the_broker_is_a_sentence(scheme, broker):
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]
    options = {"region": "us-east-1", "is_secure": False} if scheme == "sqs" else {}
    broker(f"{scheme}://name:secret@127.0.0.1:{port}//", options)
    [found] = celery_doctor.examine_broker(10)
    assert found.id == "idempotency.E014"
    assert "secret" not in found.msg
    assert "\n" not in found.msg


def test_a_broker_that_never_answers_is_given_up(broker):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", {})
        [found] = celery_doctor.examine_broker(0.5)
    assert "no answer within" in found.msg


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("reddis://name:secret@127.0.0.1:1/0", {}, "broker cannot be used: KeyError: 'No such"),
        ("redis://name:secret@127.0.0.1:abc/0", {}, "ValueError: Port could not be cast"),
        ("redis://name:secret/1@127.0.0.1:1/0", {}, "broker cannot be used: ValueError"),
        ("redis://name:a@secret/1@127.0.0.1:1/0", {}, "broker cannot be used: "),
        ("memory://", {"visibility_timeout": "abc"}, "I003"),
    ],
)
def test_a_broker_that_cannot_be_made_is_a_sentence_without_its_password(
    url, options, says, broker
):
    broker(url, options)
    [found] = celery_doctor.examine_broker(10)
    assert says in str(found)
    assert "secret" not in found.msg


def test_the_rule_of_a_broker_that_was_not_tried_is_not_known(broker, monkeypatch):
    monkeypatch.setitem(TRANSPORT_ALIASES, "other", TRANSPORT_ALIASES["memory"])
    broker("other://", {})
    [found] = celery_doctor.examine_broker(10)
    assert found.id == "idempotency.I003", found
    assert "is not known: it was not tried" in found.msg
