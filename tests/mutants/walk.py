"""What is only seen in the admin's pages as they are served."""

from tests.mutants import Mutant

MUTANTS = [
    Mutant(
        "walk past a task id that is not there",
        "admin/records.py",
        'copyable(row.task_id) if row.task_id else "-"',
        "copyable(row.task_id) if row.task_id else None",
        "tests/admin/test_understand.py -k shown_as_nothing",
    ),
]
