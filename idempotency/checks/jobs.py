"""The decorated functions of the project."""

from __future__ import annotations

from idempotency import jobs
from idempotency.checks.findings import Found, finding, register


def check_scopes() -> Found:
    """E007: two functions with one scope."""
    jobs.all_jobs()
    return [
        finding(
            "E007",
            f"{first} and {second} both have the scope {scope!r}: a key that one has used answers "
            "the other with a result that is not its own.",
            "Give each a scope= of its own.",
        )
        for scope, first, second in sorted(jobs.clashes)
    ]


register(check_scopes)
