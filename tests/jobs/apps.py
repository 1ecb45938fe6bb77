"""The tests' app, as a project's own: in its ``ready()`` the metrics are connected."""

import os
from datetime import timedelta

from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "tests.jobs"

    def ready(self) -> None:
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            from idempotency.contrib import prometheus  # `make bare` has no library for it

            prometheus.connect()
        if "TEST_GATHER_FOR" in os.environ:
            from idempotency import events

            events.GATHER_FOR = float(os.environ["TEST_GATHER_FOR"])
        if "TEST_PURGE_PATIENCE" in os.environ:
            from idempotency import maintenance

            maintenance.PATIENCE = timedelta(seconds=float(os.environ["TEST_PURGE_PATIENCE"]))
        if "TEST_PLAIN_BEGIN" in os.environ:  # see tests/harness/plain_begin.py
            from idempotency.storage import postgresql

            postgresql.AUTOCOMMIT = "_as_if_psycopg_had_another"
