"""The numbers: counted at the end of the primary key, drawn, and told to those who collect them."""

from tests.mutants import Mutant

TRAFFIC = "tests/operations/test_traffic.py"
FIND = "tests/admin/test_find.py"
DASHBOARD = "tests/admin/test_dashboard.py"
PROMETHEUS = "tests/contrib/test_prometheus.py"
OPENTELEMETRY = "tests/contrib/test_opentelemetry.py"

MUTANTS = [
    Mutant(
        "numbers: take a long transaction for the end of the period",
        "storage/tails.py",
        "since = seconds + LONGEST.total_seconds()",
        "since = seconds",
        f"{TRAFFIC} -k transaction_that_was_long",
    ),
    Mutant(
        "numbers: count what is older than the period",
        "storage/tails.py",
        "     WHERE {at} >= {begin}\n",
        "",
        f"{TRAFFIC} -k transaction_that_was_long",
    ),
    Mutant(
        "numbers: count a sample as if it were all",
        "storage/tails.py",
        "number * weight)",
        "number)",
        f"{TRAFFIC} -k is_estimated",
    ),
    Mutant(
        "numbers: read a table to its end",
        "storage/tails.py",
        '"rows": STRETCHED,',
        '"rows": "{table}",',
        "tests/admin/test_fast.py -k to_its_end",
    ),
    Mutant(
        "numbers: see the purge lag at the head of the table only",
        "backlog.py",
        "for low in range(head, last, step)",
        "for low in range(head, head + 1, step)",
        f"{TRAFFIC} -k short_retention",
    ),
    Mutant(
        "numbers: look for the purge lag by ids, as if they had no gaps",
        "backlog.py",
        "return _Stretch(low, end, (high - begin + 1) / (end - begin + 1))",
        "return _Stretch(low, low + STRETCH, 2)",
        f"{TRAFFIC} -k left_behind",
    ),
    Mutant(
        "numbers: choose by the rows of one table which scopes are told apart",
        "statistics.py",
        "_told_apart([*records.rows, *events.rows])",
        "_told_apart(records.rows) | _told_apart(events.rows)",
        f"{TRAFFIC} -k all_of_its_rows",
    ),
    Mutant(
        "numbers: count the messages of a reason among the oldest of all",
        "backlog.py",
        "_counted(messages.filter(reason=reason))",
        "_counted(messages, only=Q(reason=reason))",
        f"{FIND} -k each_reason_is_told",
    ),
    Mutant(
        "numbers: count what has lapsed among the oldest that run",
        "backlog.py",
        "_counted(records.lapsed())",
        "_counted(running, only=Q(lease_expires_at__lte=Now()))",
        f"{FIND} -k that_has_run_out",
    ),
    Mutant(
        "numbers: take the age of the record for that of the doubt",
        "backlog.py",
        'IN_DOUBT), since="effect_begun_at")',
        "IN_DOUBT))",
        f"{TRAFFIC} -k waits_is_counted",
    ),
    Mutant(
        "numbers: ask one row whether all before it are old",
        "storage/tails.py",
        "ASKED = 10",
        "ASKED = 1",
        f"{TRAFFIC} -k ended_last",
    ),
    Mutant(
        "numbers: show them to whoever is logged in",
        "admin/dashboard.py",
        "        if not self.has_view_permission(request):",
        "        if False:",
        f"{DASHBOARD} -k may_not_see",
    ),
    Mutant(
        "numbers: count in the default database",
        "admin/dashboard.py",
        "using = self.get_queryset(request).db",
        'using = "default"',
        f"{DASHBOARD} -k settings_name",
    ),
    Mutant(
        "numbers: leave a drawing without words",
        "templates/admin/idempotency/dashboard/chart.html",
        "{{ bar.hours }}: {{ bar.number }}{% if not forloop.last %}; {% endif %}",
        "",
        f"{DASHBOARD} -k in_words",
    ),
    Mutant(
        "numbers: make a series of every scope",
        "contrib/measures.py",
        "if len(_scopes) >= MOST_SCOPES:",
        "if False:",
        f"{PROMETHEUS} -k without_end",
    ),
    Mutant(
        "numbers: leave the connection of a scrape open",
        "contrib/measures.py",
        "        if not was_open:",
        "        if False:",
        f"{PROMETHEUS} -k as_it_was",
    ),
    Mutant(
        "numbers: let a database that is away hide the counters",
        "contrib/measures.py",
        "    except (DatabaseError, InterfaceError):",
        "    except InterfaceError:",
        f"{PROMETHEUS} -k away",
    ),
    Mutant(
        "numbers: put the key's hash among the labels",
        "contrib/prometheus.py",
        'labels = (scope_label(about["scope"]), outcome)',
        'labels = (about["key_hash"].hex, outcome)',
        f"{PROMETHEUS} -k no_key_becomes",
    ),
    Mutant(
        "numbers: tell a span the outcome of nothing",
        "contrib/opentelemetry.py",
        '    span.set_attribute("idempotency.outcome", outcome)\n',
        "",
        f"{OPENTELEMETRY} -k span_of_a_delivery",
    ),
]
