"""Each check fires when the configuration is wrong, is silent when it is right, can be silenced."""

import sys
from datetime import timedelta
from functools import partial, wraps

import django
import pytest
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

from idempotency import ALL_ARGUMENTS, Leased, OnDoubt, execute, idempotent, jobs
from idempotency.checks.findings import PAGE, finding

#: The tasks of the tests wait for gates, and have no time limit.
OURS = {"idempotency.W005"}
SMTP = "django.core.mail.backends.smtp.EmailBackend"
HOLD = Leased(on_doubt=OnDoubt.HOLD)


def messages(*, deploy=False, databases=None):
    tags = [checks.Tags.database if databases else "idempotency"]
    return checks.run_checks(tags=tags, include_deployment_checks=deploy, databases=databases)


def found(number=None, **asked):
    """The ids, or the one message with an id, of what our checks say of this project now."""
    if number is None:
        return [message.id for message in messages(**asked)]
    [message] = [each for each in messages(**asked) if each.id == f"idempotency.{number}"]
    assert message.hint
    return message.msg


def is_found(number, **asked):
    return f"idempotency.{number}" in found(**asked)


def declare(name="send", module=__name__, **options):
    """A decorated function of this project, which no module holds."""

    def function(order_id, customer=None):
        return order_id

    function.__qualname__, function.__module__ = name, module
    return idempotent(**{"key": "order_id", "scope": name} | options)(function)


def test_nothing_is_said_of_a_project_that_is_right():
    assert found() == []
    assert set(found(deploy=True)) == OURS


@pytest.mark.django_db
def test_nothing_is_said_of_a_database_that_is_right():
    assert found(databases=["default"]) == []


@pytest.mark.parametrize(
    ("given", "number", "said"),
    [
        ([], "E001", "must be a dict, not list"),
        ({"LEESE": timedelta(1)}, "E002", "'LEESE'"),
        ({"BACKEND": "x"}, "E002", "drf-idempotency"),
        ({"LEASE": 10}, "E003", "a positive timedelta"),
        ({"DATABASE": "jobs"}, "E004", "'jobs', which is no database alias"),
    ],
)
def test_wrong_settings_are_reported_and_stop_no_command(given, number, said):
    with override_settings(IDEMPOTENCY=given):
        assert said in found(number)
        assert set(found(deploy=True)) - OURS == {f"idempotency.{number}"}


def test_the_alias_of_one_function_is_looked_at_like_that_of_the_settings():
    declare(using="jobs")
    assert "using= of " in found("E004")
    assert "send names 'jobs'" in found("E004")


def test_a_database_without_a_storage_is_an_error(monkeypatch):
    monkeypatch.setattr(connections["default"], "vendor", "oracle")
    assert "is oracle: no call" in found("E005")


def test_an_alias_without_an_engine_is_said_to_have_none(alias):
    using = alias(ENGINE="django.db.backends.dummy")
    with override_settings(IDEMPOTENCY={"DATABASE": using}):
        assert "'asked' has no ENGINE: no call" in found("E005")


@pytest.mark.parametrize(("mode", "said"), [("IMMEDIATE", False), (None, True), ("deferred", True)])
def test_sqlite_s_transactions_have_to_begin_as_writers(mode, said, monkeypatch):
    options = connections["sqlite"].settings_dict["OPTIONS"]
    monkeypatch.setitem(options, "transaction_mode", mode)
    with override_settings(IDEMPOTENCY={"DATABASE": "sqlite"}):
        assert "one job writes at a time" in found("W012")
        assert ("do not begin as writers" in found("W012")) is said


def test_two_functions_with_one_scope_are_an_error():
    jobs.jobs.clear()
    declare("mail", scope="send")
    declare("mail", scope="send")  # its module was loaded again
    assert not is_found("E007")
    declare("webhook", scope="send")
    assert "test_checks.mail and " in found("E007")
    assert "both have the scope 'send'" in found("E007")


@override_settings(IDEMPOTENCY={"DATABASE": "jobs"}, SILENCED_SYSTEM_CHECKS=["idempotency.E004"])
def test_a_check_can_be_silenced():
    [message] = messages()
    assert message.is_silenced()


@pytest.mark.parametrize("number", ["E006", "W015", "I002"])
def test_every_message_ends_with_its_place_in_the_docs(number):
    assert finding(number, "It is so.", "Type this.").hint.endswith(
        f"Type this. See {PAGE}#idempotency{number.lower()}"
    )


# -- the database aliases ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "secrets", "expected"),
    [
        ({}, [], []),
        ({"isolation_level": 2}, ["old", "new"], []),
        ({"isolation_level": 3}, [], ["W021"]),
        ({"isolation_level": 4}, ["one"], ["W021"]),
        ({"isolation_level": 3}, ["old", "new"], ["E015"]),
    ],
)
def test_transactions_that_see_the_past_are_named(options, secrets, expected, alias):
    given = {"DATABASE": alias(options=options), "KEY_SECRETS": secrets}
    with override_settings(IDEMPOTENCY=given):
        said = [each for each in found() if each[-4:] in ("W021", "E015")]
    assert said == [f"idempotency.{number}" for number in expected]


@pytest.mark.parametrize(
    ("pool", "warned"),
    [
        (None, False),
        (True, False),
        ({"min_size": 1}, True),
        ({"min_size": 1, "max_size": 1}, True),
        ({"min_size": 1, "max_size": 2}, False),
        ({"timeout": 5}, False),
    ],
)
def test_a_pool_of_one_connection_leaves_none_for_the_heartbeat(pool, warned, alias):
    jobs.jobs.clear()
    with override_settings(IDEMPOTENCY={"DATABASE": alias(options={"pool": pool})}):
        declare(policy=HOLD)
        assert is_found("W023") is warned


def test_a_pool_of_one_connection_is_enough_for_transactional_jobs(alias):
    jobs.jobs.clear()
    with override_settings(IDEMPOTENCY={"DATABASE": alias(options={"pool": {"min_size": 1}})}):
        declare()
        assert not is_found("W023")


@pytest.mark.parametrize(
    ("pool", "says"),
    [({"max_size": 2}, "max_size must be"), ({"maximum": 2}, "unexpected keyword argument")],
)
def test_a_pool_that_is_refused_is_a_sentence(pool, says, alias, django_db_blocker):
    using = alias(options={"pool": pool}, CONN_MAX_AGE=0)
    with django_db_blocker.unblock(), override_settings(IDEMPOTENCY={"DATABASE": using}):
        assert says in found("E011", databases=["asked"])
    connections["asked"].settings_dict["OPTIONS"].pop("pool")  # there is none to close


class ToAsked:
    """A router that sends one model, and the tables, to another alias."""

    allows = True

    def db_for_write(self, model, **hints):
        return "asked" if model._meta.model_name == "effect" else None

    def allow_migrate(self, db, app_label, **hints):
        return self.allows or db != "asked"


class KeepsOff(ToAsked):
    allows = False


@pytest.mark.parametrize(
    ("router", "policy", "expected"),
    [
        (None, None, ["W010"]),
        (None, HOLD, []),
        (ToAsked, None, []),
        (KeepsOff, None, ["E006"]),
    ],
)
def test_records_that_rows_do_not_go_to_are_named(router, policy, expected, alias):
    jobs.jobs.clear()
    options = {} if policy is None else {"policy": policy}
    declare(using=alias(), **options)
    routers = [f"{__name__}.{router.__name__}"] if router else []
    with override_settings(DATABASE_ROUTERS=routers):
        assert found() == [f"idempotency.{number}" for number in expected]


class JobsToAsked:
    def db_for_write(self, model, **hints):
        return "asked" if model._meta.app_label == "jobs" else None


class OfATenant:
    def db_for_write(self, model, **hints):
        raise LookupError("There is no tenant.")


@pytest.mark.parametrize(
    ("router", "module", "kept_on", "warned"),
    [
        (JobsToAsked, "tests.jobs.tasks", "default", True),
        (JobsToAsked, "tests.jobs.tasks", "asked", False),
        (JobsToAsked, "elsewhere.tasks", "default", False),
        (JobsToAsked, "django.contrib.auth.tasks", "asked", True),
        (JobsToAsked, "django.contrib.staticfiles.tasks", "default", False),
        (OfATenant, "tests.jobs.tasks", "default", False),
    ],
)
def test_a_record_away_from_the_rows_of_the_job_s_own_app_is_named(
    router, module, kept_on, warned, alias
):
    jobs.jobs.clear()
    alias()
    declare(module=module, using=kept_on)
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.{router.__name__}"]):
        assert found() == ["idempotency.W010"] * warned
        assert not warned or f"The records of {module}.send are on" in found("W010")


class OffSQLite:
    def allow_migrate(self, db, *_, **__):
        return db != "sqlite"


def test_a_function_with_shards_is_looked_at_on_each_that_may_hold_records(alias, monkeypatch):
    """Its body names the shard of its rows, so nothing is said of where a router writes them."""
    sharded = declare("decorated", using=lambda order_id, customer: "asked")
    monkeypatch.setitem(globals(), "decorated", sharded)
    monkeypatch.setitem(globals(), "urlpatterns", [path("", call_function)])
    alias(ATOMIC_REQUESTS=True)
    with override_settings(ROOT_URLCONF=__name__, DATABASE_ROUTERS=[f"{__name__}.OffSQLite"]):
        assert found() == ["idempotency.E010"]
    assert is_found("W012")  # without a router SQLite may be one of them


# -- the tables ----------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("idempotency_record", "idempotency_record_key_hash"),
        ("idempotency_parked_message", "idempotency_parked_message_once"),
    ],
)
def test_a_constraint_that_was_dropped_is_an_error_until_it_is_made_again(table, name):
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        assert f"no unique constraint {name}" in found("E006", databases=["default"])
        [message] = messages(databases=["default"])
        remedy = message.hint.partition(": ")[2].partition(";")[0]
        assert remedy.startswith("CREATE UNIQUE INDEX")
        cursor.execute(remedy)
    assert found(databases=["default"]) == []


@pytest.mark.django_db
def test_a_table_that_is_missing_is_an_error_but_while_it_is_made(monkeypatch):
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE idempotency_event")
    said = "has no table idempotency_event"
    assert said in found("E006", databases=["default"])
    assert found() == []  # nobody said that a database may be asked
    assert found(databases=["sqlite"]) == []
    with pytest.raises(SystemCheckError, match=said):
        call_command("check", databases=["default"])
    monkeypatch.setattr(sys, "argv", ["manage.py", "migrate"])
    assert found(databases=["default"]) == []


@pytest.mark.django_db
def test_a_migration_that_is_not_applied_is_an_error():
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'idempotency'")
    assert "0001_initial is the first" in found("E006", databases=["default"])


def test_a_database_that_does_not_answer_is_a_sentence(alias, django_db_blocker):
    with (
        django_db_blocker.unblock(),
        override_settings(IDEMPOTENCY={"DATABASE": alias(PORT="1")}),
    ):
        said = found("E011", databases=["asked"])
    assert "cannot be used: connection" in said
    assert "\n" not in said


# -- views ---------------------------------------------------------------------------------------


def receive(request):
    execute(list, key="event", scope="views")
    return HttpResponse()


def send_only(request):
    transaction.on_commit(lambda: execute(list, key="event", scope="views"))
    return HttpResponse()


def call_function(request):
    decorated(1)
    return HttpResponse()


class Receive(View):
    def post(self, request):
        execute(list, key="event", scope="views")
        return HttpResponse()


class Decorated(View):
    @method_decorator(never_cache)
    def post(self, request):
        execute(list, key="event", scope="views")
        return HttpResponse()


@wraps(partial(receive, None))
def an_object_that_can_be_called(request):
    return HttpResponse()


def decorated(order_id):
    raise NotImplementedError


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (receive, "test_checks.receive calls execute()"),
        (transaction.non_atomic_requests(lambda request: receive(request)), None),
        (send_only, None),
        (call_function, "test_checks.call_function calls decorated()"),
        (Receive.as_view(), "test_checks.Receive calls execute()"),
        (Decorated.as_view(), "test_checks.Decorated calls execute()"),
        (an_object_that_can_be_called, None),
    ],
)
@pytest.mark.parametrize("atomic", [True, False])
def test_a_call_inside_the_transaction_of_a_request_is_an_error(view, said, atomic, monkeypatch):
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", atomic)
    monkeypatch.setitem(globals(), "decorated", declare("decorated"))
    monkeypatch.setitem(globals(), "urlpatterns", [path("", view)])
    with override_settings(ROOT_URLCONF=__name__):
        if atomic and said:
            assert said in found("E010")
        else:
            assert found() == []


def test_a_view_without_a_transaction_of_its_request_may_call(monkeypatch):
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    freed = transaction.non_atomic_requests(lambda request: None)
    freed.__wrapped__ = receive
    monkeypatch.setitem(globals(), "urlpatterns", [path("", freed)])
    with override_settings(ROOT_URLCONF=__name__):
        assert found() == []


# -- what is right on a developer's machine --------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "secrets", "warned"),
    [
        ("customer.email", [], True),
        (("order_id", "customer.home_address"), [None], True),
        ("customer.email", ["a secret"], False),
        ("customer.email_id", [], False),
        ("order_id", [], False),
        (lambda order_id, customer: customer, [], False),
    ],
)
def test_keys_that_can_be_guessed_need_a_secret(key, secrets, warned):
    declare(key=key)
    with override_settings(IDEMPOTENCY={"KEY_SECRETS": secrets}):
        assert is_found("W015", deploy=True) is warned
        assert not is_found("W015")


def test_all_arguments_are_looked_at_by_their_names():
    @idempotent(key=ALL_ARGUMENTS, scope="all")
    def greet(email):
        pass

    assert "greet (email)" in found("W015", deploy=True)


@pytest.mark.skipif(django.VERSION >= (6, 1), reason="MAILERS is instead of them")
@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"EMAIL_HOST": "mail", "EMAIL_TIMEOUT": None}, True),
        ({"EMAIL_HOST": "mail", "EMAIL_TIMEOUT": 10}, False),
        ({"EMAIL_HOST": "localhost", "EMAIL_TIMEOUT": None}, False),
        ({"EMAIL_HOST": "mail", "EMAIL_TIMEOUT": None, "EMAIL_BACKEND": "other.Backend"}, False),
    ],
)
def test_a_mail_server_that_hangs_must_not_hold_a_leased_job(settings, warned):
    with override_settings(**{"EMAIL_BACKEND": SMTP} | settings):
        assert is_found("W017", deploy=True) is warned


@pytest.mark.parametrize(
    ("mailer", "warned"),
    [
        ({"BACKEND": "other.Backend"}, False),
        ({"BACKEND": SMTP, "OPTIONS": {"timeout": 1}}, False),
        ({"BACKEND": SMTP, "OPTIONS": {"host": "mail"}}, True),
    ],
)
def test_a_mailer_of_django_6_must_not_hold_a_leased_job(mailer, warned):
    with override_settings(MAILERS={"default": mailer}):
        assert is_found("W017", deploy=True) is warned
        jobs.jobs.clear()
        declare()
        assert not is_found("W017", deploy=True)
