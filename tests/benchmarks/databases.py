"""A database for one run, and for one process where two would have the same keys."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import make_conninfo


@contextmanager
def own_database() -> Iterator[str]:
    """Where another database is, on the server that ``DATABASE_URL`` names: the one that is named
    may be somebody's."""
    server, name = os.environ["DATABASE_URL"], f"bench_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as owner:
        owner.execute(f"CREATE DATABASE {name}")
        try:
            yield make_conninfo(server, dbname=name)
        finally:
            owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
