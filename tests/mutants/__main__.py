"""Break the app, one line at a time, and see a test fail each time: ``make mutants``.

A mutant that survives means a promise that no test keeps. Run ``make test`` before: a test that
fails anyway says nothing. Each runs in a copy of the checkout, against a database of its own.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.mutants import CHECKOUT, Mutant

COPIED = (
    *("idempotency", "notifications", "project", "tests", "docs"),
    *("manage.py", "pyproject.toml", "Makefile"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),  # which link to each other
)
# Those that are found by themselves take half of the time that a mutant takes.
PLUGINS = "-p pytest_django.plugin -p xdist.plugin"
LISTS = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
MUTANTS = [mutant for name in LISTS for mutant in import_module(f"tests.mutants.{name}").MUTANTS]


@contextmanager
def copy_of_checkout():
    with tempfile.TemporaryDirectory() as directory:
        for name in COPIED:
            source, target = CHECKOUT / name, Path(directory) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        yield Path(directory)


def pytest(checkout: Path, tests: str, database: str) -> subprocess.CompletedProcess[str]:
    given = conninfo_to_dict(os.environ["DATABASE_URL"])
    command = f'"{sys.executable}" -m pytest {PLUGINS} -q -x --tb=line {tests}'
    return subprocess.run(  # noqa: S602 the command is ours
        command,
        shell=True,
        cwd=checkout,
        env={
            **os.environ,
            "DATABASE_URL": make_conninfo(**given | {"dbname": database}),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def survives(mutant: Mutant, databases: SimpleQueue[str]) -> str:
    """What is wrong with a mutant's run; empty when a test failed as it should."""
    database = databases.get()
    try:
        with copy_of_checkout() as checkout:
            mutant.apply(checkout)
            run = pytest(checkout, mutant.tests, database)
    finally:
        databases.put(database)
    if run.returncode == 1 and "FAILED" in run.stdout and "NO VERDICT" not in run.stdout:
        return ""
    if run.returncode == 0:
        return f"survived {mutant.tests}"
    return f"pytest {mutant.tests} exited with {run.returncode}:\n{run.stdout}{run.stderr}"


def chosen(only: str) -> list[Mutant]:
    """Those whose name has the word; without one, all but the long ones, which are most of the
    storms: ``make mutants ARGS=storm:``."""
    if only:
        return [mutant for mutant in MUTANTS if only in mutant.breaks]
    return [mutant for mutant in MUTANTS if not mutant.is_long]


def passes_unbroken(mutants: list[Mutant], workers: int) -> bool:
    """Whether the tests pass on the app as it is. For all of them, ``make test`` has said so."""
    files = sorted({word for m in mutants for word in m.tests.split() if word.endswith(".py")})
    with copy_of_checkout() as checkout:
        unbroken = pytest(checkout, f"-n {workers} {' '.join(files)}", "mutants_0")
    if unbroken.returncode:
        print(f"The tests fail already, so no mutant would say anything:\n{unbroken.stdout}")
        return False
    print(f"Without them: {unbroken.stdout.strip().splitlines()[-1]}", flush=True)
    return True


def main(only: str = "") -> int:
    mutants = chosen(only)
    for mutant in filter(Mutant.is_stale, mutants):
        print(f"Bring this mutant up to date, {mutant.file} has changed: {mutant.breaks}")
        return 1
    databases: SimpleQueue[str] = SimpleQueue()
    workers = min(8, 2 * (os.cpu_count() or 1))  # as the tests: most of the time they wait
    for number in range(workers):
        databases.put(f"mutants_{number}")
    print(f"{len(mutants)} mutants.", flush=True)
    if only and not passes_unbroken(mutants, workers):
        return 1
    survivors = []
    with ThreadPoolExecutor(workers) as pool:
        wrongs = pool.map(lambda mutant: survives(mutant, databases), mutants)
        for mutant, wrong in zip(mutants, wrongs, strict=True):
            print(f"  {'SURVIVED' if wrong else 'caught  '}  {mutant.breaks}", flush=True)
            if wrong:
                survivors.append(f"{mutant.breaks}: {wrong.splitlines()[0]}")
                print(f"            {wrong}", flush=True)
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants were caught.")
    for survivor in survivors:
        print(survivor)
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
