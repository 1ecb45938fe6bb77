"""The database aliases that records live behind, as far as the settings tell."""

from __future__ import annotations

from collections.abc import Iterator

from django.apps import apps
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router

from idempotency.checks.findings import Found, finding, register
from idempotency.conf import conf, problems
from idempotency.jobs import Job, all_jobs
from idempotency.models import IdempotencyRecord
from idempotency.policies import Leased, Transactional
from idempotency.storage import VENDORS

#: By their number in psycopg's ``IsolationLevel``, which Django takes in ``OPTIONS``.
ONE_SNAPSHOT = {3: "REPEATABLE READ", 4: "SERIALIZABLE"}


def aliases() -> dict[str, str]:
    """Where records are kept, and who says so.

    Raises:
        ImproperlyConfigured: The settings cannot be read.
    """
    default = conf().DATABASE
    named = {default: "IDEMPOTENCY['DATABASE']"}
    for job in all_jobs().values():
        for alias in aliases_of(job):
            named.setdefault(alias, f"using= of {job.name}")
    return named


def aliases_of(job: Job) -> list[str]:
    """Where the records of a job are kept. What a callable returns is not known before a call: it
    can be each alias to which the routers let the table migrate."""
    if callable(job.using):
        return [alias for alias in connections if _may_hold_records(alias)]
    return [job.using or conf().DATABASE]


def _may_hold_records(alias: str) -> bool:
    try:
        vendor = connections[alias].vendor
    except (ImportError, ImproperlyConfigured):  # no driver
        return False
    return vendor in VENDORS and router.allow_migrate_model(alias, IdempotencyRecord)


def known_aliases() -> list[str]:
    """The aliases with a database that records can live on; none if the settings are wrong."""
    if problems():
        return []
    return [
        alias
        for alias in aliases()
        if alias in connections and connections[alias].vendor in VENDORS
    ]


def _jobs_on(alias: str, policy: type[Leased] | type[Transactional]) -> list[Job]:
    return [
        job
        for job in all_jobs().values()
        if isinstance(job.policy, policy) and alias in aliases_of(job)
    ]


def check_databases() -> Found:
    """E004, E005: an alias that nobody knows, a vendor without a storage."""
    return [] if problems() else list(_unusable())


def _unusable() -> Iterator[checks.CheckMessage]:
    for alias, who in aliases().items():
        if alias not in connections:
            yield finding(
                "E004",
                f"{who} names {alias!r}, which is no database alias.",
                f"Known are: {', '.join(connections)}.",
            )
        elif connections[alias].vendor not in VENDORS:
            yield without_storage(alias, who)


def without_storage(alias: str, who: str) -> checks.CheckMessage:
    """What it means that records cannot live on a vendor's database."""
    connection = connections[alias]
    # Django gives this one to an empty dict. (django/db/utils.py, configure_settings)
    is_empty = connection.settings_dict["ENGINE"] == "django.db.backends.dummy"
    return finding(
        "E005",
        f"The database {alias!r} {'has no ENGINE' if is_empty else f'is {connection.vendor}'}: no "
        "call of an @idempotent function that keeps its records there will run.",
        f"Name a PostgreSQL database: {who}.",
    )


def check_sqlite() -> Found:
    """W012: one writer."""
    return [_sqlite(alias) for alias in known_aliases() if connections[alias].vendor == "sqlite"]


def _sqlite(alias: str) -> checks.CheckMessage:
    message = (
        f"The database {alias!r} is SQLite: one job writes at a time, whatever its key. One that "
        "waits for longer than the connection's timeout is deferred as if its transaction was lost."
    )
    hint = "Good for development. Use PostgreSQL where jobs run side by side."
    options = connections[alias].settings_dict["OPTIONS"]
    if str(options.get("transaction_mode")).upper() != "IMMEDIATE":
        message += (
            " Its transactions do not begin as writers, so that one which has read is refused when "
            "somebody else has written meanwhile."
        )
        hint = 'Add "transaction_mode": "IMMEDIATE" to the OPTIONS of the database. ' + hint
    return finding("W012", message, hint)


def check_isolation() -> Found:
    """W021, E015: a snapshot that is older than the key's lock."""
    levels = {
        alias: ONE_SNAPSHOT.get(connections[alias].settings_dict["OPTIONS"].get("isolation_level"))
        for alias in known_aliases()
        if connections[alias].vendor == "postgresql"
    }
    return [isolation(alias, level) for alias, level in levels.items() if level]


def isolation(alias: str, level: str) -> checks.CheckMessage:
    """What it means that transactions see the database as it was when they began."""
    hint = (
        "Leave isolation_level out of the OPTIONS of the database: READ COMMITTED is the default "
        "of Django and of PostgreSQL, unless the server or the role says otherwise "
        "(ALTER ROLE ... RESET default_transaction_isolation)."
    )
    message = f"Transactions on {alias!r} are {level}: they cannot see what was committed since "
    if len(conf().KEY_SECRETS) > 1:
        return finding(
            "E015",
            message + "they began. While there are two KEY_SECRETS, a duplicate in a process that "
            "signs with the other one does not see the record, and commits a second effect.",
            hint,
        )
    return finding(
        "W021",
        message + "they began, so that a duplicate runs its body in vain before it is refused.",
        hint,
    )


def check_pool() -> Found:
    """W023: a heartbeat needs a second connection."""
    return [
        finding(
            "W023",
            f"The pool of the database {alias!r} holds one connection, which the body of "
            f"{leased[0].name} may be using: its lease cannot be renewed, and runs out while it "
            "runs.",
            'In the "pool" of the database set "min_size": 1, and "max_size" to two for each '
            "thread that runs jobs.",
        )
        for alias in known_aliases()
        if _pool_size(alias) == 1 and (leased := _jobs_on(alias, Leased))
    ]


def _pool_size(alias: str) -> int | None:
    pool = connections[alias].settings_dict["OPTIONS"].get("pool")
    if not isinstance(pool, dict):
        return None  # none, or True: with the defaults it holds four
    # Without a maximum it stays at its minimum. (psycopg_pool/base.py, _check_size)
    size: int | None = pool.get("max_size") or pool.get("min_size")
    return size


def check_routers() -> Found:
    """E006, W010: a database router that keeps record and rows apart."""
    return [found for alias in known_aliases() for found in _misrouted(alias)]


def _misrouted(alias: str) -> Iterator[checks.CheckMessage]:
    if not router.allow_migrate_model(alias, IdempotencyRecord):
        yield finding(
            "E006",
            f"A database router keeps the tables of idempotency off {alias!r}, where the records "
            "are looked for: `migrate` makes none there, and says nothing.",
            f"Let allow_migrate({alias!r}, 'idempotency') return True, then type: manage.py "
            f"migrate idempotency zero --fake --database {alias}; manage.py migrate idempotency "
            f"--database {alias}.",
        )
    # The body of a sharded job names the shard of its rows; the runtime says it if it does not.
    named = [job for job in _jobs_on(alias, Transactional) if not callable(job.using)]
    apart = [job for job in named if _writes_elsewhere(job, alias)]
    if apart:
        names = ", ".join(job.name for job in apart[:3])
        yield finding(
            "W010",
            f"The records of {names} are on {alias!r}, and no model of its app is written there by "
            "default: rows that a body writes without using= are not committed together with its "
            "record.",
            f"Keep the records where the rows are (DATABASE, or using= of the decorator), or let "
            f"a database router send the models to {alias!r}.",
        )


def _writes_elsewhere(job: Job, alias: str) -> bool:
    """Whether no model of the app with the job, or of the project, is written to the alias."""
    ours = IdempotencyRecord._meta.app_label
    app = apps.get_containing_app_config(job.name)
    models = list(app.get_models()) if app else []
    models = models or [each for each in apps.get_models() if each._meta.app_label != ours]
    try:
        return not any(router.db_for_write(model) == alias for model in models)
    except Exception:  # a router may need to know a request or a tenant, and there is none
        return False


for each in (
    check_databases,
    check_sqlite,
    check_isolation,
    check_pool,
    check_routers,
):
    register(each)
