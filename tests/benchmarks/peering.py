"""Measure all of the others in one run: ``.venv-bench/bin/python -m tests.benchmarks.peering``.

``peers`` starts it, on the database that it has made. What it has found is JSON on its output.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import django


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--calls", type=int)
    parser.add_argument("--seconds", type=float)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # the others' own, of each call
    with redirect_stdout(sys.stderr):
        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0, run_syncdb=True)
        found = _measured(given)
    print(json.dumps(found), flush=True)
    os._exit(0)  # the threads of some never end


def _measured(given: argparse.Namespace) -> dict[str, Any]:
    from tests.benchmarks.others import others
    from tests.benchmarks.rounds import Rounds, Subject
    from tests.benchmarks.subjects import BARE, CONTROL, bare
    from tests.benchmarks.writing import versions
    from tests.jobs.models import Effect

    assert not Effect.objects.exists(), "no key is new where others have had them"
    subjects = [Subject(BARE, bare, BARE), Subject(CONTROL, bare, BARE)]
    skipped, releases = {}, {}
    for other in others(os.environ["BENCH_CACHE_URL"], os.environ["BENCH_DURABLE_URL"]):
        calls = built(other)
        if isinstance(calls, str):
            skipped[other.name] = calls
            continue
        first, again = calls
        if other.package:
            releases[other.package] = version(other.package)
        subjects.append(Subject(other.name, first, BARE))
        subjects.append(Subject(f"{other.name}, again", again, BARE, again=True))
    rounds = Rounds(subjects, rounds=given.rounds, calls=given.calls, seconds=given.seconds)
    return {
        "rounds": rounds.rounds,
        "versions": versions(),
        "releases": releases,
        "skipped": skipped,
        "subjects": {
            name: {
                "microseconds": rounds.microseconds(name),
                "ratio": rounds.ratio(name),
                "cpu": rounds.cpu_over(name),
            }
            for name in rounds.subjects
        },
    }


def built(other: Any) -> Any:
    """Its two calls, or why it cannot be measured."""
    from tests.benchmarks.others import cannot_part, does_it_once

    if sys.version_info < other.python:
        return f"It needs Python {'.'.join(map(str, other.python))} or newer, and none was found"
    try:
        if other.package:
            version(other.package)
        first, again = other.build()
        if other.measures_effect:
            does_it_once(first, again)
        if other.is_killed:
            cannot_part(first, again)
    except PackageNotFoundError:
        return f"It is not installed: `.venv-bench/bin/pip install {other.package}` says why"
    except Exception as error:  # whatever it is, the others are measured all the same
        return f"{type(error).__name__}: {error}"
    return first, again


if __name__ == "__main__":
    main()
