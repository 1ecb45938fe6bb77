"""A purge along the pages of the table."""

from tests.mutants import Mutant

BATCHES = "tests/storage/test_batches.py"
BESIDE = "tests/concurrency/test_purge.py"

MUTANTS = [
    Mutant(
        "batches: leave a page between two",
        "storage/batches.py",
        "low + step",
        "low + step - 1",
        f"{BATCHES} -k in_one_batch",
    ),
    Mutant(
        "batches: leave out the last page",
        "storage/batches.py",
        "range(0, pages, step)",
        "range(0, pages - 1, step)",
        f"{BATCHES} -k in_one_batch",
    ),
    Mutant(
        "batches: take a row for a page",
        "storage/batches.py",
        "max(size // ROWS_OF_A_PAGE, 1)",
        "size",
        f"{BATCHES} -k rows_fill",
    ),
    Mutant(
        "batches: read the whole table for each",
        "storage/batches.py",
        '"{table}.ctid >= %s::tid AND {table}.ctid < %s::tid"',
        '"({table}.ctid >= %s::tid) IS TRUE AND ({table}.ctid < %s::tid) IS TRUE"',
        f"{BATCHES} -k its_own_pages",
    ),
    Mutant(
        "batches: delete what was seen before, by where it lay",
        "maintenance.py",
        "    return batch._raw_delete(batch.db)",
        "    due = list(batch.values_list('pk', flat=True))\n"
        "    return batch.model._default_manager.filter(pk__in=due)._raw_delete(batch.db)",
        f"{BESIDE} -k became_alive",
    ),
    Mutant(
        "batches: read each twice until one is forgotten",
        "maintenance.py",
        " if oldest is not None else 0",
        "",
        "tests/operations/test_commands.py -k reads_no_page_twice",
    ),
    Mutant(
        "batches: wait for the disk after each",
        "maintenance.py",
        "            storage.stand_back(PATIENCE)",
        "            storage.wait_at_most(PATIENCE)",
        f"{BESIDE} -k waits_for_the_disk",
    ),
    Mutant(
        "batches: end what somebody else commits",
        "maintenance.py",
        "    if not storage.connection.get_autocommit():",
        "    if storage.connection.in_atomic_block:",
        f"{BESIDE} -k manual_commit_mode",
    ),
    Mutant(
        "batches: leave unflushed what somebody else commits",
        "maintenance.py",
        """:  # somebody else commits it
        return""",
        """:
        storage.stand_back(PATIENCE)
        return""",
        f"{BESIDE} -k somebody_s_transaction",
    ),
    Mutant(
        "batches: wait for whoever writes a row",
        "storage/postgresql.py",
        "        self.wait_at_most(patience)",
        "        self.wait_at_most(timedelta(minutes=1))",
        f"{BESIDE} -k no_deadlock",
    ),
    Mutant(
        "batches: end with the first row that somebody writes",
        "maintenance.py",
        "storage.has_other_writers and storage.is_lock_timeout(error)",
        "False",
        f"{BESIDE} -k left_to_the_next",
    ),
    Mutant(
        "batches: see what was there at the beginning",
        "storage/postgresql.py",
        'f"{READ_COMMITTED}; SET LOCAL synchronous_commit = off"',
        '"SET LOCAL synchronous_commit = off"',
        f"{BESIDE} -k level_of_isolation",
    ),
]
