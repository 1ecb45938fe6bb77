"""What a call costs, and what costs it nothing."""

from tests.mutants import Mutant

COUNTS = "tests/execution/test_counts.py"
GATHERING = "tests/execution/test_gathering.py"
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
        "cost: a column of a record that is two bytes wider",
        "migrations/0001_initial.py",
        "PositiveSmallIntegerField",
        "PositiveIntegerField",
        f"{COUNTS} -k 270",
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
        "self.redelivered or request.retries or self._deferred",
        "self.redelivered or request.retries",
        "tests/contrib/test_celery.py -k flagged_duplicate",
    ),
    Mutant(
        "cost: write each duplicate at once",
        "events.py",
        "GATHERED = frozenset({Kind.DUPLICATE, Kind.DEFERRED})",
        "GATHERED = frozenset()",
        f"{COUNTS} -k writes_no_wal",
    ),
    Mutant(
        "cost: gather what failed, too",
        "events.py",
        "GATHERED = frozenset({Kind.DUPLICATE, Kind.DEFERRED})",
        "GATHERED = SAMPLED",
        f"{GATHERING} -k waits_for_its_event",
    ),
    Mutant(
        "cost: gather in a test, too",
        "events.py",
        'if hasattr(mail, "outbox"):',
        "if False:",
        f"{GATHERING} -k without_one",
    ),
    Mutant(
        "cost: gather in the transaction of a test case, too",
        "events.py",
        "return storage.has_other_writers and not storage.connection.in_atomic_block",
        "return storage.has_other_writers",
        f"{GATHERING} -k inside_django_s",
    ),
    Mutant(
        "cost: tell of a duplicate the time at which it was written",
        "events.py",
        "if self.since is not None:",
        "if False:",
        f"{GATHERING} -k has_the_time",
    ),
    Mutant(
        "cost: leave the connection open by which events were written",
        "events.py",
        "                connections.close_all()",
        "                pass",
        f"{GATHERING} -k left_open",
    ),
    Mutant(
        "cost: lose at the end what was gathered",
        "events.py",
        "@atexit.register\n",
        "",
        f"{GATHERING} -k so_does_a_fork",
    ),
    Mutant(
        "cost: let a fork write what its parent has gathered",
        "events.py",
        "os.register_at_fork(after_in_child=_gathered.begin_anew)",
        "pass",
        f"{GATHERING} -k so_does_a_fork",
    ),
    Mutant(
        "cost: fail a duplicate for want of a thread",
        "events.py",
        "except RuntimeError:",
        "except KeyError:",
        f"{GATHERING} -k without_a_thread",
    ),
    Mutant(
        "cost: gather without end while the server takes nothing",
        "events.py",
        "if len(self._log) >= GATHER_MOST:",
        "if False:",
        f"{GATHERING} -k fill_the_memory",
    ),
    Mutant(
        "cost: let a child of the pool end with what it has gathered",
        "contrib/celery.py",
        "    events.write_at_end()",
        "    pass",
        "tests/contrib/test_celery.py -k child_of_a_pool",
    ),
]
