"""Databases that are chosen by the arguments of a call."""

from tests.mutants import Mutant

SHARDS = "tests/shards/test_shards.py"
EXCEPTIONS = "tests/contrib/test_exceptions.py"
CHECKS = "tests/operations/test_checks.py"

MUTANTS = [
    Mutant(
        "shards: send every call to one database",
        "decorators.py",
        "    return replace(call, using=alias)\n",
        "    return call\n",
        f"{SHARDS} -k own_key",
    ),
    Mutant(
        "shards: believe any text",
        "sharding.py",
        "        if alias not in connections:\n",
        "        if False:\n",
        f"{EXCEPTIONS} -k unknown_shard_shows",
    ),
    Mutant(
        "shards: end the message of an unknown shard",
        "contrib/celery.py",
        "LeaseLost | ShardUnknown):",
        "LeaseLost):",
        f"{EXCEPTIONS} -k unknown_shard_shows",
    ),
    Mutant(
        "shards: tell of a call where the setting says",
        "decorators.py",
        "using=call.using or conf().DATABASE,",
        "using=conf().DATABASE,",
        f"{SHARDS} -k told_on_the_shard",
    ),
    Mutant(
        "shards: look at one database only",
        "checks/databases.py",
        "return [alias for alias in connections if _may_hold_records(alias)]",
        "return [conf().DATABASE]",
        f"{SHARDS} -k routers_let",
    ),
    Mutant(
        "shards: take a database without records for a shard",
        "checks/databases.py",
        "return vendor in VENDORS and router.allow_migrate_model(alias, IdempotencyRecord)",
        "return vendor in VENDORS",
        f"{SHARDS} -k routers_let",
    ),
    Mutant(
        "shards: let a driver that is not there stop the checks",
        "checks/databases.py",
        "except (ImportError, ImproperlyConfigured):",
        "except ZeroDivisionError:",
        f"{SHARDS} -k routers_let",
    ),
    Mutant(
        "shards: expect rows where a router writes them",
        "checks/databases.py",
        "if not callable(job.using)]",
        "if job]",
        f"{CHECKS} -k with_shards",
    ),
    Mutant(
        "shards: let beat see to one database",
        "contrib/celery_tasks.py",
        "    for alias in aliases():\n",
        "    for alias in [*aliases()][:1]:\n",
        f"{SHARDS} -k is_away",
    ),
    Mutant(
        "shards: let one that is away stop the sweep of the others",
        "contrib/celery_tasks.py",
        "            errors.append(error)\n",
        "            raise\n",
        f"{SHARDS} -k is_away",
    ),
    Mutant(
        "shards: keep it quiet that one was away",
        "contrib/celery_tasks.py",
        "        raise errors[0]\n",
        "        pass\n",
        f"{SHARDS} -k is_away",
    ),
    Mutant(
        "shards: look for a key on one database",
        "management/base.py",
        "return [self.using] if self.is_named else [*aliases()]",
        "return [self.using]",
        f"{SHARDS} -k finds_the_shard",
    ),
]
