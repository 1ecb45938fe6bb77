# Everything runs in .venv, which every target makes by itself. Python 3.11 or newer is enough.
PYTHON ?= python3
DJANGO ?= 6.1
RUN := .venv/bin/python
# The tests wait more than they compute. No more than 8: the broker's server has two databases for each.
TESTS := -m pytest -n $(shell $(PYTHON) -c 'import os; print(min(8, 2 * os.cpu_count()))') --dist loadgroup
SERVERS := $(RUN) -m project.services run --throwaway

.DEFAULT_GOAL := help
.PHONY: help install demo serve pictures chaos test pooled plain bench bench-short bench-admin crashes oldest django smoke bare check docs format mutants clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed ## Make .venv with all that the project needs

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it: make PYTHON=python3.x")'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@

demo: .venv/installed ## Send 500 messages through a storm of kills (SEED=, KILLS=)
	@$(RUN) -m notifications.demo

serve: .venv/installed ## Settle a bad night in the admin, beside a worker and a mail server (PORT=)
	@$(RUN) -m notifications.demo.serve

pictures: .venv/installed ## Take the admin's pictures for the docs again, in Chromium
	@command -v "$${CHROMIUM:-chromium}" >/dev/null || { echo "Chromium is missing: install it, or name it by CHROMIUM=." >&2; exit 1; }
	PICTURES=docs/_static $(SERVERS) $(RUN) -m pytest -q tests/walk -k it_happened

chaos: .venv/installed ## Blow a long storm of faults (MINUTES= BROKER=valkey|rabbitmq|pgmq|sqs SEED= DELIVERIES= KILLS=)
	@$(RUN) -m tests.chaos

test: .venv/installed ## Run the tests on servers of their own (ARGS= for pytest)
	$(SERVERS) $(RUN) $(TESTS) $(ARGS)

POOLED = transactional leased resolution asked deaths retried
pooled: .venv/installed ## Run the app's tests through PgBouncer, in transaction mode
	$(SERVERS) $(RUN) $(TESTS) -p tests.harness.pooled $(POOLED:%=tests/execution/test_%.py) \
	    tests/faults tests/storage/test_postgresql.py $(ARGS)

plain: .venv/installed ## Run the app's tests as if BEGIN could not travel with a statement
	$(SERVERS) $(RUN) $(TESTS) -p tests.harness.plain_begin tests/execution tests/faults \
	    tests/storage/test_postgresql.py tests/attacks tests/concurrency tests/interleavings \
	    $(ARGS)

PARTS ?= calls worker peers growth
bench: .venv/installed .venv-bench/installed ## Measure what the app costs, and write docs/benchmarks/ anew (PARTS= ROUNDS= CALLS= ROWS=)
	@$(SERVERS) $(RUN) -m tests.benchmarks $(PARTS) $(ROUNDS:%=--rounds %) $(CALLS:%=--calls %) \
	    $(if $(ROWS),--rows $(ROWS)) --docs docs/benchmarks

bench-short: .venv/installed ## Measure a call beside the bare transaction (ROUNDS= CALLS=)
	@$(SERVERS) $(RUN) -m tests.benchmarks $(ROUNDS:%=--rounds %) $(CALLS:%=--calls %)

# The newest Python that is here, for this app and the others alike: one of them needs 3.12.
NEWEST = $(shell for each in python3.12 python3.13 python3.14 ~/.pyenv/versions/3.1[2-4].*/bin/python $(PYTHON); do \
    "$$each" -c 'import ensurepip, sys; print(sys.version.split()[0], sys.executable)' 2>/dev/null; done | sort -rV | sed 's/^[^ ]* //; q')

# The others, each by itself: one that cannot be installed here is skipped, and the rest is measured.
.venv-bench/installed: requirements.txt tests/benchmarks/requirements.txt
	$(NEWEST) -m venv --clear .venv-bench
	sed '/^$$/q' requirements.txt > .venv-bench/requirements.txt
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --requirement .venv-bench/requirements.txt
	sed -n 's/ *#.*//; /==/p' tests/benchmarks/requirements.txt | while read -r other; do \
	    .venv-bench/bin/pip install --quiet --disable-pip-version-check \
	        --requirement .venv-bench/requirements.txt "$$other" || echo "SKIPPED: $$other" >&2; done
	@touch $@

bench-admin: .venv/installed ## Measure each page of the admin on a large database (ROWS=)
	@$(RUN) -m tests.benchmarks.admin

crashes: .venv/installed ## Strike every point by every fault, and remake the tables of the guarantees (an hour)
	$(SERVERS) $(RUN) -m tests.crashes

oldest: .venv-celery-oldest/installed ## Run Celery's tests against the oldest Celery supported
	.venv-celery-oldest/bin/python -m project.services run --throwaway \
	    .venv-celery-oldest/bin/python $(TESTS) \
	    tests/contrib tests/acceptance tests/testing --ignore tests/testing/test_plugin.py \
	    -k "not pgmq and not sqs and not rabbitmq and not pgbouncer and not stranger" $(ARGS)

# A virtual environment for each Python; the Django in it is changed. The servers are .venv's.
PYTHON_VERSION = $(shell $(PYTHON) -c 'import sys; print("{}.{}".format(*sys.version_info))')
DJANGO_VENV = .venv-django-$(PYTHON_VERSION)
DJANGO_PYTEST = $(DJANGO_VENV)/bin/pip install --quiet --disable-pip-version-check "Django~=$(DJANGO).0" && \
    $(SERVERS) $(DJANGO_VENV)/bin/python $(TESTS) tests/house/test_migrations.py

django: .venv/installed $(DJANGO_VENV)/installed ## Run the app's tests on another Django (DJANGO=6.1 PYTHON=)
	$(DJANGO_PYTEST) tests/unit tests/execution tests/storage tests/operations tests/faults \
	    tests/testing --ignore tests/testing/test_plugin.py \
	    tests/admin --ignore-glob 'tests/admin/test_*browser*.py' $(ARGS)

smoke: .venv/installed $(DJANGO_VENV)/installed ## Run a few of them: the contract, decorator, checks and admin
	$(DJANGO_PYTEST) tests/execution/test_decorators.py tests/storage/test_postgresql.py \
	    tests/storage/test_sqlite.py tests/operations/test_admin.py tests/operations/test_checks.py \
	    tests/admin/test_settling.py $(ARGS)

.venv-django-%/installed: requirements.txt
	$(PYTHON) -m venv $(@D)
	sed '/^# Checks/,$$d' requirements.txt > $(@D)/requirements.txt
	$(@D)/bin/pip install --quiet --disable-pip-version-check --requirement $(@D)/requirements.txt
	@touch $@

# The servers are started by .venv: the project's own package imports Celery.
BARE := $(SERVERS) .venv-bare/bin/python $(TESTS) tests/bare

bare: .venv/installed .venv-bare/installed ## Run the app's tests without Celery, then without the admin too
	$(BARE) --ds=tests.bare.settings tests/execution/test_transactional.py tests/storage/test_postgresql.py \
	    tests/operations/test_admin.py tests/operations/test_checks.py \
	    -k "not killed_process and not W012 and not as_writers and not mail and not said_of_a_project" $(ARGS)
	$(BARE) --ds=tests.bare.settings_without_admin $(ARGS)

.venv-bare/installed: requirements.txt
	$(PYTHON) -m venv .venv-bare
	grep -E '^(Django|psycopg|pytest)' requirements.txt > .venv-bare/requirements.txt
	.venv-bare/bin/pip install --quiet --disable-pip-version-check --requirement .venv-bare/requirements.txt
	@touch $@

.venv-celery-oldest/installed: requirements.txt tests/celery-oldest.txt
	$(PYTHON) -m venv .venv-celery-oldest
	sed -e '/^celery\[/d' -e '/^# Checks/,$$d' requirements.txt > .venv-celery-oldest/requirements.txt
	.venv-celery-oldest/bin/pip install --quiet --disable-pip-version-check \
	    --requirement .venv-celery-oldest/requirements.txt --requirement tests/celery-oldest.txt
	@touch $@

check: .venv/installed ## Format, lint, types, import contracts, Django's checks, migrations
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	$(SERVERS) .venv/bin/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 .venv/bin/pyright --warnings  # it asks for no newer release
	.venv/bin/lint-imports
	$(SERVERS) sh -c '$(RUN) manage.py migrate --verbosity 0 && $(RUN) manage.py check --database default && $(RUN) manage.py idempotency_doctor --broker && $(RUN) manage.py makemigrations --check --dry-run'

docs: .venv/installed ## Build the docs as a site, into docs/_build
	$(RUN) -m sphinx -q -W --keep-going -E docs docs/_build
	@echo "Look at docs/_build/index.html"

format: .venv/installed ## Put the code into its format
	.venv/bin/ruff check --fix --quiet .
	.venv/bin/ruff format .

mutants: .venv/installed ## Break the app line by line, and see a test fail for each
	$(SERVERS) $(RUN) -m tests.mutants $(ARGS)

clean: ## Remove what the targets made, the demo's servers and their data too
	-$(RUN) -m project.services clean
	rm -rf .venv .venv-bare .venv-bench .venv-celery-oldest .venv-django-* .state docs/_build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
