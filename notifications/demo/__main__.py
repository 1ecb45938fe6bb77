"""``python -m notifications.demo``: the storm of ``make demo``, with servers of its own.

``SEED`` replays a storm and ``KILLS`` worsens it. The exit status is 0 only if our lane has lost
nothing and doubled nothing.
"""

import argparse
import os
import random
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import django

from project import services

KILLS = 28


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m notifications.demo")
    parser.add_argument(
        "file", nargs="?", type=Path, default=Path(__file__).parent / "messages.csv"
    )
    parser.add_argument("--throwaway", action="store_true", help="keep nothing afterwards")
    options = parser.parse_args()
    services.end_in_order()
    try:
        seed = int(os.environ.get("SEED") or random.randrange(10_000))  # noqa: S311 no secret
        kills = int(os.environ.get("KILLS") or KILLS)
        return _run(options.file, seed=seed, kills=kills, throwaway=options.throwaway)
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. No process is left.\n")
        return 128 + signal.SIGINT
    except (OSError, RuntimeError, ValueError) as error:
        sys.stderr.write(f"\n{error}\n")
        return 1


def _run(file: Path, *, seed: int, kills: int, throwaway: bool) -> int:
    with ExitStack() as stack:
        kept = services.lasting_state()
        state = stack.enter_context(services.throwaway_state()) if throwaway else kept
        servers = stack.enter_context(services.running(state))
        # The settings read these when they are first used, so what needs Django comes after.
        os.environ.update(servers.environment(), DJANGO_SETTINGS_MODULE="project.settings")
        django.setup()
        from notifications.demo.acts import Demo

        demo = Demo(servers, file, seed=seed, kills=kills)
        stack.enter_context(demo.cast())
        held = demo.play()
        if not throwaway:
            demo.say_where_to_look(state)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
