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
        "        return batch._raw_delete(batch.db)",
        "        due = list(batch.values_list('pk', flat=True))\n"
        "        return batch.model._default_manager.filter(pk__in=due)._raw_delete(batch.db)",
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
        "            storage.leave_unflushed()",
        "            pass",
        f"{BESIDE} -k waits_for_the_disk",
    ),
    Mutant(
        "batches: leave unflushed what somebody else commits",
        "maintenance.py",
        "        if not is_inside:",
        "        if True:",
        f"{BESIDE} -k somebody_s_transaction",
    ),
]
