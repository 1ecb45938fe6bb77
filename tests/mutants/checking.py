"""Checks and the doctor: each has "check" in its name."""

from tests.mutants import Mutant

CHECKS = "tests/operations/test_checks.py"
CELERY = "tests/operations/test_celery_checks.py"
DOCTOR = "tests/operations/test_doctor.py"

DATABASES = "checks/databases.py"
SCHEMA = "checks/schema.py"
VIEWS = "checks/views.py"
OPTIONS = "checks/options.py"
TASKS = "contrib/celery_checks/tasks.py"
BROKER = "contrib/celery_checks/broker.py"
APPLICATION = "contrib/celery_checks/application.py"

MUTANTS = [
    Mutant(
        "check the alias of the settings only",
        DATABASES,
        'named.setdefault(job.using or default, f"using= of {job.name}")',
        "named.setdefault(default, job.name)",
        f"{CHECKS} -k alias_of_one_function",
    ),
    Mutant(
        "check two secrets like one",
        DATABASES,
        "if len(conf().KEY_SECRETS) > 1:",
        "if False:",
        f"{CHECKS} -k see_the_past",
    ),
    Mutant(
        "check SERIALIZABLE as if it were harmless",
        DATABASES,
        ', 4: "SERIALIZABLE"',
        "",
        f"{CHECKS} -k see_the_past",
    ),
    Mutant(
        "check a pool by its maximum only",
        DATABASES,
        'pool.get("max_size") or pool.get("min_size")',
        'pool.get("max_size")',
        f"{CHECKS} -k pool_of_one_connection_leaves",
    ),
    Mutant(
        "check a pool where nobody needs a heartbeat",
        DATABASES,
        "and (leased := _jobs_on(alias, Leased))",
        "and (leased := [*_jobs_on(alias, Leased), *_jobs_on(alias, Transactional)])",
        f"{CHECKS} -k enough_for_transactional",
    ),
    Mutant(
        "check a router without its tables",
        DATABASES,
        "if not router.allow_migrate_model(alias, IdempotencyRecord):",
        "if False:",
        f"{CHECKS} -k rows_do_not_go_to",
    ),
    Mutant(
        "check the alias of leased jobs for rows",
        DATABASES,
        "jobs = _jobs_on(alias, Transactional)",
        "jobs = [*_jobs_on(alias, Transactional), *_jobs_on(alias, Leased)]",
        f"{CHECKS} -k rows_do_not_go_to",
    ),
    Mutant(
        "check the tables while they are made",
        SCHEMA,
        'if sys.argv[1:2] == ["migrate"]:',
        "if False:",
        f"{CHECKS} -k but_while_it_is_made",
    ),
    Mutant(
        "check databases that nobody named",
        SCHEMA,
        "set(known_aliases()) & set(databases or ())",
        "known_aliases()",
        f"{CHECKS} -k but_while_it_is_made",
    ),
    Mutant(
        "check that a constraint has its name only",
        SCHEMA,
        "if not _is_unique(connection.introspection.get_constraints(cursor, table), name)",
        "if False",
        f"{CHECKS} -k dropped",
    ),
    Mutant(
        "check tables and no migrations",
        SCHEMA,
        "if waiting := _unapplied(alias):",
        "if waiting := []:",
        f"{CHECKS} -k not_applied",
    ),
    Mutant(
        "check a view without regard to non_atomic_requests",
        VIEWS,
        'atomic - getattr(view, "_non_atomic_requests", set())',
        "atomic",
        f"{CHECKS} -k without_a_transaction",
    ),
    Mutant(
        "check views that are functions only",
        VIEWS,
        'getattr(view, "view_class", None) or getattr(view, "cls", None)',
        "None",
        f"{CHECKS} -k transaction_of_a_request",
    ),
    Mutant(
        "check views where no transaction is opened",
        VIEWS,
        'if connections[a].settings_dict["ATOMIC_REQUESTS"]}',
        "}",
        f"{CHECKS} -k transaction_of_a_request",
    ),
    Mutant(
        "check a key's row id for a mailbox",
        OPTIONS,
        '.rpartition("_")[2].lower() in PERSONAL',
        '.lower().split("_")[-1:-3:-1] and any(p in argument for p in PERSONAL)',
        f"{CHECKS} -k can_be_guessed",
    ),
    Mutant(
        "check secrets on a developer's machine",
        OPTIONS,
        "register(check_secrets, deploy=True)",
        "register(check_secrets)",
        f"{CHECKS} -k can_be_guessed",
    ),
    Mutant(
        "check mailers of which nobody said anything",
        "conf.py",
        'if waits and settings.EMAIL_HOST != "localhost" else []',
        "if waits else []",
        f"{CHECKS} -k mail_server",
    ),
    Mutant(
        "check the lease against the time limit the other way round",
        TASKS,
        "and job.policy.max_run < timedelta(seconds=limit)",
        "and job.policy.max_run > timedelta(seconds=limit)",
        f"{CELERY} -k given_up_before",
    ),
    Mutant(
        "check for a time limit where max_run is declared",
        TASKS,
        "        and job.policy.max_run is None\n",
        "",
        f"{CELERY} -k nothing_ends",
    ),
    Mutant(
        "check autoretry_for without what it leaves out",
        TASKS,
        'and not issubclass(InDoubt, tuple(getattr(task, "dont_autoretry_for", ())))',
        "",
        f"{CELERY} -k its_own_doubt",
    ),
    Mutant(
        "check a visibility timeout against no pause",
        BROKER,
        '            ("wait before a retry", _longest_pause(task)),\n',
        "",
        f"{CELERY} -k pause_before",
    ),
    Mutant(
        "check the longest pause as if it were reached at once",
        BROKER,
        "return min(longest, last)",
        "return longest",
        f"{CELERY} -k pause_before",
    ),
    Mutant(
        "check the retention without the deferral",
        BROKER,
        "back_within = max(conf().DEFER_FOR, 2 * lease) + visibility",
        "back_within = visibility",
        f"{CELERY} -k forgotten_too_early",
    ),
    Mutant(
        "check the retention without the broker",
        BROKER,
        "back_within = max(conf().DEFER_FOR, 2 * lease) + visibility",
        "back_within = max(conf().DEFER_FOR, 2 * lease)",
        f"{CELERY} -k forgotten_too_early",
    ),
    Mutant(
        "check a leased job for deaths that are counted",
        BROKER,
        "if isinstance(job.policy, Transactional)\n",
        "if True\n",
        f"{CELERY} -k nobody_counts",
    ),
    Mutant(
        "check a quorum queue against one death too few",
        BROKER,
        "if 0 <= limit <= conf().MAX_REDELIVERIES",
        "if 0 <= limit < conf().MAX_REDELIVERIES",
        f"{CELERY} -k before_we_stop_it",
    ),
    Mutant(
        "check the beat schedule of another scheduler",
        APPLICATION,
        'if app.conf.beat_scheduler != DEFAULTS["beat_scheduler"]:',
        "if False:",
        f"{CELERY} -k nobody_has_scheduled",
    ),
    Mutant(
        "check an application without an idempotent task",
        "contrib/celery_checks/__init__.py",
        " or not list(tasks.idempotent_tasks(app))",
        "",
        f"{CELERY} -k without_an_idempotent",
    ),
    Mutant(
        "doctor: leave out what is checked for deployment",
        "management/commands/idempotency_doctor.py",
        "include_deployment_checks=True",
        "include_deployment_checks=False",
        f"{DOCTOR} -k for_deployment",
    ),
    Mutant(
        "doctor: let its own check stop it",
        "management/commands/idempotency_doctor.py",
        "    requires_system_checks = []  # they are what it reports\n",
        "",
        f"{DOCTOR} -k faults_are_sentences",
    ),
    Mutant(
        "doctor: check nothing's status",
        "management/commands/idempotency_doctor.py",
        "        if wrong:\n",
        "        if False:\n",
        f"{DOCTOR} -k one_line",
    ),
    Mutant(
        "doctor: say twice what is checked already",
        "management/commands/idempotency_doctor.py",
        " if each not in found]",
        "]",
        f"{DOCTOR} -k not_say_again",
    ),
    Mutant(
        "doctor: check the rights of half a job",
        "storage/server.py",
        ",\n               ('idempotency_parked_message', 'INSERT'), "
        "('idempotency_parked_message', 'DELETE')",
        "",
        f"{DOCTOR} -k rights",
    ),
    Mutant(
        "doctor: check isolation outside of a transaction",
        "storage/server.py",
        "with transaction.atomic(using=using), connections[using].cursor() as cursor:\n"
        "        cursor.execute(ASK)",
        "with connections[using].cursor() as cursor:\n        cursor.execute(ASK)",
        f"{DOCTOR} -k json_holds",
    ),
    Mutant(
        "doctor: check a lock on the connection that holds it",
        "storage/server.py",
        "with second.cursor() as other:",
        "with connections[using].cursor() as other:",
        f"{DOCTOR} -k needs_no_attention",
    ),
    Mutant(
        "doctor: check no second connection's error",
        "storage/server.py",
        "except (DatabaseError, InterfaceError) as error:\n                raise NoSecond",
        "except ZeroDivisionError as error:\n                raise NoSecond",
        f"{DOCTOR} -k one_connection",
    ),
    Mutant(
        "doctor: check a pooler by the server's word",
        "storage/server.py",
        "told.info.backend_pid != pid",
        "False",
        f"{DOCTOR} -k pooler_is_seen",
    ),
    Mutant(
        "doctor: check a lag that a weekly purge has",
        "doctor.py",
        "LAG = timedelta(days=8)",
        "LAG = timedelta(days=6)",
        f"{DOCTOR} -k nobody_deletes",
    ),
    Mutant(
        "doctor: throw what a broken database raises, unchecked",
        "doctor.py",
        "except BROKEN as error:",
        "except ZeroDivisionError as error:",
        f"{DOCTOR} -k closed_port_is",
    ),
    Mutant(
        "doctor: check with the password in sight",
        "contrib/celery_doctor.py",
        "connection.as_uri()",
        "connection.as_uri(include_password=True)",
        f"{DOCTOR} -k closed_port_of_the_broker",
    ),
]
