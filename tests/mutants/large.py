"""What operators and purges do to a large table, and what was decided about a record as seen."""

from tests.mutants import Mutant

FIND = "tests/admin/test_find.py"
FAST = "tests/admin/test_fast.py"
TELL = "tests/admin/test_understand.py"
SETTLE = "tests/admin/test_settling.py"
COMMANDS = "tests/operations/test_commands.py"

MUTANTS = [
    Mutant(
        "large: let a purge delete what it has read before",
        "maintenance.py",
        "    return batch._raw_delete(batch.db)",
        "    return batch.delete()[0]",
        "tests/operations/test_commands.py -k whoever_listens",
    ),
    Mutant(
        "large: export what the page of a record refuses",
        "admin/export.py",
        " if modeladmin.has_view_permission(request, row)]",
        "]",
        "tests/admin/test_export.py -k may_not_see",
    ),
    Mutant(
        "large: look through all that failed",
        "admin/base.py",
        "return self._among_held(rows, held) if len(asked) > 1 else rows",
        "return rows",
        f"{FAST} -k all_that_failed",
    ),
    Mutant(
        "large: look for a task id in all that failed",
        "admin/search.py",
        "return rows.filter(**{beyond: edge[0]}) if edge else rows",
        "return rows",
        f"{FIND} -k newest_failures_only",
    ),
    Mutant(
        "large: look for what is soon forgotten among the newest of a state",
        "admin/search.py",
        '("pk", "pk__lt") if oldest else',
        '("-pk", "pk__gt") if oldest else',
        f"{FIND} -k two_filters",
    ),
    Mutant(
        "large: say nothing of a part of a state",
        "admin/base.py",
        "self.window, self.is_of_state = self.OF_STATE, True",
        "pass",
        f"{FIND} -k two_filters",
    ),
    Mutant(
        "large: read each failure to count them",
        "backlog.py",
        'read = failed.order_by("id")',
        'read = failed.filter(exhausted_at=None).order_by("id")',
        f"{FAST} -k without_reading",
    ),
    Mutant(
        "large: count what is exhausted as failed too",
        "backlog.py",
        "max(read - exhausted.number, 0)",
        "read",
        f"{FIND} -k 'behind_all'",
    ),
    Mutant(
        "large: take what is exhausted from a count that is cut",
        "backlog.py",
        "CAP + exhausted.number + 1",
        "CAP + 1",
        f"{FIND} -k 'behind_all'",
    ),
    Mutant(
        "large: take SQLite's clock for local time",
        "storage/sqlite.py",
        "return at.replace(tzinfo=UTC) if is_naive(at) else super().in_utc(at)",
        "return super().in_utc(at)",
        f"{TELL} -k clock_of_sqlite",
    ),
    Mutant(
        "large: tell the lag of the last batch",
        "maintenance.py",
        "        if oldest is None:\n",
        "        if True:\n",
        f"{COMMANDS} -k first_that_is_forgotten",
    ),
    Mutant(
        "large: settle what a user may not see by itself",
        "admin/settling.py",
        "if self.has_view_permission(request, row)]",
        "]",
        f"{SETTLE} -k see_by_itself",
    ),
    Mutant(
        "large: allow again what is exhausted since",
        "querysets.py",
        "            exhausted_at__isnull=seen.exhausted_at is None,\n",
        "",
        f"{SETTLE} -k 'failed_otherwise and exhaust'",
    ),
    Mutant(
        "large: allow again what was a doubt since",
        "querysets.py",
        "            effect_begun_at__isnull=seen.effect_begun_at is None,\n",
        "",
        f"{SETTLE} -k 'failed_otherwise and doubt'",
    ),
    Mutant(
        "large: mean any claim of a record that had none",
        "management/base.py",
        "return record.claim_id or uuid4()",
        "return record.claim_id",
        f"{COMMANDS} -k after_the_record",
    ),
]
