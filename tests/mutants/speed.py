"""What a call costs, and what costs it nothing."""

from tests.mutants import Mutant

COUNTS = "tests/execution/test_counts.py"
TRANSACTIONAL = "tests/execution/test_transactional.py"

MUTANTS = [
    Mutant(
        "cost: take settings that have changed for those that were judged",
        "conf.py",
        "if given is known and given == then:",
        "if given is known:",
        "tests/unit/test_conf.py -k where_they_stand",
    ),
    Mutant(
        "cost: bind without a look at what was passed by name",
        "arguments.py",
        "if not kwargs and self._plain",
        "if self._plain",
        "tests/unit/test_keys.py -k does_not_fit",
    ),
    Mutant(
        "cost: send BEGIN alone",
        "storage/postgresql.py",
        "if begins and _merges_begin(raw):",
        "if False:",
        f"{COUNTS} -k no_round_trip_more",
    ),
    Mutant(
        "cost: ask psycopg for a name that it has not",
        "storage/postgresql.py",
        "if not hasattr(raw, AUTOCOMMIT):",
        "if False:",
        f"{COUNTS} -k without_the_private_name",
    ),
    Mutant(
        "cost: leave psycopg in autocommit behind BEGIN",
        "storage/postgresql.py",
        "                setattr(raw, AUTOCOMMIT, False)",
        "                pass",
        f"{TRANSACTIONAL} -k commits_by_itself",
    ),
    Mutant(
        "cost: begin without the isolation level of the connection",
        "storage/postgresql.py",
        "return raw.isolation_level is None and",
        "return",
        f"{COUNTS} -k isolation",
    ),
    Mutant(
        "cost: open a transaction for a delivery whose key is known to be busy",
        "transactional.py",
        "if look.seen is None and not look.locked:",
        "if False:",
        f"{COUNTS} -k busy",
    ),
    Mutant(
        "cost: do not look first for a delivery that was deferred",
        "contrib/celery.py",
        "self.redelivered or request.retries or deferred",
        "self.redelivered or request.retries",
        "tests/contrib/test_celery.py -k flagged_duplicate",
    ),
]
