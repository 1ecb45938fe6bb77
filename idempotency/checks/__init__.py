"""What in the project's configuration breaks a promise: ``manage.py check``.

Only `schema` reaches for a database, and only where one is named: ``check --database default``.
Nothing reaches for a broker. The ids are stable, and never used again.
"""

from idempotency.checks import databases, jobs, options, schema, views

__all__ = ["databases", "jobs", "options", "schema", "views"]
