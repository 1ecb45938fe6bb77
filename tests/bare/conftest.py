"""These tests are those of ``make bare``, where there is no Celery."""

from importlib.util import find_spec

collect_ignore_glob = ["test_*.py"] if find_spec("celery") else []
