"""Settings, checks, commands, maintenance, statistics."""

from tests.mutants import Mutant

CELERY = "tests/contrib/test_celery.py"
STATISTICS = "tests/operations/test_statistics.py"
CONF = "tests/unit/test_conf.py"
COMMANDS = "tests/operations/test_commands.py"

MUTANTS = [
    Mutant(
        "sweep with the tasks that are imported by chance",
        "maintenance.py",
        "jobs = all_jobs() if askable else {}",
        "from idempotency.jobs import jobs",
        "tests/execution/test_asked.py -k nobody_has_imported",
    ),
    Mutant(
        "load the tasks again while they are loaded",
        "jobs.py",
        "if not _loading:",
        "if True:",
        "tests/unit/test_jobs.py -k while_it_is_imported",
    ),
    Mutant(
        "never load again what could not be loaded",
        "jobs.py",
        "        finally:\n            _loading = False\n",
        "        finally:\n            pass\n",
        "tests/unit/test_jobs.py -k tried_again",
    ),
    Mutant(
        "read the settings before the checks have spoken",
        "management/base.py",
        "    def handle(self, *args: Any, **options: Any) -> None:\n",
        "    def check(self, *args: Any, **options: Any) -> None:\n        conf()\n\n"
        "    def handle(self, *args: Any, **options: Any) -> None:\n",
        "tests/operations/test_commands.py -k not_by_a_stack",
    ),
    Mutant(
        "read the broker of the first URL only by its text",
        "contrib/celery_checks/broker.py",
        "app.connection_for_write().transport_cls",
        'str(app.conf.broker_url).partition(":")[0].partition("+")[0]',
        "tests/operations/test_celery_checks.py -k too_early",
    ),
    Mutant(
        "purge what a message waits for",
        "maintenance.py",
        ".filter(~Exists(parked))",
        "",
        f"{COMMANDS} -k leaves",
    ),
    Mutant(
        "delete in a dry run",
        "maintenance.py",
        "    if dry_run:\n        due =",
        "    if False:\n        due =",
        f"{COMMANDS} -k dry_run",
    ),
    Mutant(
        "purge the first batch only",
        "maintenance.py",
        "        done += number\n",
        "        return number, oldest\n",
        f"{COMMANDS} -k nothing_else",
    ),
    Mutant(
        "ignore an option that is not known",
        "conf.py",
        "return unknown + [problem",
        "return [problem",
        f"{CONF} -k cannot_be_meant",
    ),
    Mutant(
        "show a secret that is refused",
        "conf.py",
        'shown = f"another {type(value).__name__}"',
        "shown = repr(value)",
        f"{CONF} -k cannot_be_meant",
    ),
    Mutant(
        "keep quiet when a worker starts",
        "contrib/celery_checks/__init__.py",
        "@celeryd_after_setup.connect\n",
        "",
        "tests/operations/test_celery_checks.py -k worker_logs",
    ),
    Mutant(
        "forget the first of two functions with one scope",
        "jobs.py",
        "known.name != job.name",
        "False",
        "tests/operations/test_checks.py -k one_scope",
    ),
    Mutant(
        "ask with the arguments of whoever waits",
        "maintenance.py",
        "key_hash=record.key_hash, task_id=record.task_id",
        "key_hash=record.key_hash",
        f"{CELERY} -k no_other_task",
    ),
    Mutant(
        "publish what gave up while its key is held",
        "maintenance.py",
        "return look.locked and (",
        "return (",
        f"{CELERY} -k deferred_for_too_long",
    ),
    Mutant(
        "publish what waits for an exhausted record",
        "maintenance.py",
        " | Q(exhausted_at__isnull=False)",
        "",
        f"{CELERY} -k exhausted",
    ),
    Mutant(
        "count a failure as a duplicate",
        "statistics.py",
        'duplicates=Count("id", filter=Q(kind=Kind.DUPLICATE)),',
        'duplicates=Count("id"),',
        f"{STATISTICS} -k run_that_failed",
    ),
    Mutant(
        "count every duplicate as flagged by the broker",
        "statistics.py",
        "filter=Q(kind=Kind.DUPLICATE, redelivered=True)",
        "filter=Q(kind=Kind.DUPLICATE)",
        f"{STATISTICS} -k duplicates_of_a_worker",
    ),
    Mutant(
        "count a message each time that it waits",
        "statistics.py",
        "kind__in=[Kind.DUPLICATE, Kind.FAILED]",
        "kind__in=[Kind.DUPLICATE, Kind.FAILED, Kind.DEFERRED]",
        f"{STATISTICS} -k waited_for_its_key",
    ),
    Mutant(
        "count successes from before the period",
        "statistics.py",
        "state=State.SUCCEEDED, settled_at__gte=begin",
        "state=State.SUCCEEDED",
        f"{STATISTICS} -k before_the_period",
    ),
    Mutant(
        "count duplicates from before the period",
        "statistics.py",
        "Kind.FAILED], at__gte=begin",
        "Kind.FAILED]",
        f"{STATISTICS} -k before_the_period",
    ),
    Mutant(
        "take a sampled storm for all there was",
        "statistics.py",
        "is_lower_bound=scope in sampled",
        "is_lower_bound=False",
        f"{STATISTICS} -k storm",
    ),
]
