"""A program of this project as people start it, ended with the block, and what it leaves."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from project.services import CHECKOUT
from tests.harness.waiting import wait_until

Processes = set[tuple[int, str]]
"""Process id and command line of each."""


@contextmanager
def program(
    module: str, *arguments: str, **environment: object
) -> Iterator["subprocess.Popen[str]"]:
    """``python -m module``, whose output and errors are one text."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=CHECKOUT,
        env=os.environ | {name: str(value) for name, value in environment.items()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()  # its servers and workers die with it


def said_until(process: "subprocess.Popen[str]", words: str) -> str:
    """All that it says until it says this."""
    said = ""
    while words not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    return said


def descendants(pid: int) -> Processes:
    """The processes below this one."""
    parents, commands = {}, {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            status = (process / "stat").read_text().rpartition(")")[2].split()
            commands[int(process.name)] = (process / "cmdline").read_text()
        except OSError:
            continue  # it has ended meanwhile
        parents[int(process.name)] = int(status[1])
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return {(child, commands[child]) for child in found}


def state_of(processes: Processes) -> Path:
    """The folder of their data: that in which PostgreSQL's lies."""
    [data] = {found[1] for _, command in processes if (found := re.search("-D\0([^\0]+)", command))}
    return Path(data).parent


def wait_gone(processes: Processes) -> None:
    """Wait until all have ended. Those that were killed must be reaped by others."""
    wait_until(lambda: not _alive(processes), "every process to end")


def _alive(processes: Processes) -> set[int]:
    found = set()
    for pid, command in processes:
        try:
            if (Path("/proc") / str(pid) / "cmdline").read_text() == command:
                found.add(pid)
        except OSError:
            continue
    return found
