"""What the app costs, beside what the same work costs without it: ``make bench``.

Everything is measured in a database of its own, made for it on the server that ``DATABASE_URL``
names and dropped at the end. The ratios are of calls side by side; see ``rounds``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from importlib import import_module
from pathlib import Path

import django

from tests.benchmarks.databases import own_database

BEGIN = time.monotonic()
#: Seconds, which each part keeps to roughly; 15 minutes in all.
PARTS = {"calls": 100, "worker": 240, "peers": 150, "growth": 300}
DEFAULTS = {"rounds": 30, "calls": 50, "rows": [0, 1_000_000, 10_000_000]}


def say(text: str) -> None:
    """How far it is."""
    print(f"{time.monotonic() - BEGIN:6.0f} s  {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.set_defaults(**DEFAULTS)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--calls", type=int, help="in each round, of each kind")
    parser.add_argument("--rows", type=int, nargs="+")
    parser.add_argument("--docs", type=Path, help="write into the pages of this folder, too")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: the parts are {', '.join(PARTS)}.")
    with own_database() as os.environ["DATABASE_URL"]:
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
        django.setup()
        from django.core.management import call_command

        from tests.benchmarks.gathered import write_gathered

        call_command("migrate", verbosity=0, run_syncdb=True)
        for part in given.parts or ["calls"]:
            _measure(part, given)
        write_gathered()
    return 0


def _measure(part: str, given: argparse.Namespace) -> None:
    from tests.benchmarks.rounds import Effort
    from tests.benchmarks.writing import made

    load = os.getloadavg()[0]
    effort = Effort(given.rounds, given.calls, PARTS[part], tuple(given.rows))
    found = import_module(f"tests.benchmarks.{part}").measure(say, effort)
    if load > os.cpu_count():
        found.distrust(load)
    found.blocks["made"] = made(_command(part, given), load_before=load, under=found.versions)
    found.show()
    if given.docs:
        found.write(given.docs)


def _command(part: str, given: argparse.Namespace) -> str:
    """What makes these figures again."""
    command = f"make bench PARTS={part}"
    for name, default in DEFAULTS.items():
        value = getattr(given, name)
        if value != default:
            text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            command += f' {name.upper()}="{text}"' if " " in text else f" {name.upper()}={text}"
    return command


if __name__ == "__main__":
    sys.exit(main())
