"""The tutorial, typed into a shell: each file is written, each command runs and says what it says
there."""

import doctest
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

TEXT = (ROOT / "docs/tutorial.md").read_text()
STEPS = re.compile(
    r"^(?P<act>Write|Add to) `(?P<file>shop/\w+\.py)`[^`\n]*:\n\n```python\n(?P<code>.*?)^```"
    r"|^```console\n(?P<console>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
#: What a shell of the reader's has, and not what leads these tests to their own servers.
KEPT = ("HOME", "LANG", "PATH")
#: Seconds for one command.
PATIENCE = 90
END = "--- end of a command ---"


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A checkout of the reader's own, in which ``make install`` has run."""
    for name in ("idempotency", "notifications", "project"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "manage.py", tmp_path)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    yield tmp_path
    clean = [sys.executable, "-m", "project.services", "clean"]
    subprocess.run(clean, cwd=tmp_path, check=True)


class Shell:
    """One bash, and the shells that are started in it."""

    def __init__(self, directory: Path) -> None:
        self._bash = subprocess.Popen(
            ["bash"],  # noqa: S607 the reader's
            cwd=directory,
            env={name: os.environ[name] for name in KEPT if name in os.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            start_new_session=True,
        )

    def run(self, command: str) -> str:
        """What it prints."""
        assert self._bash.stdin
        assert self._bash.stdout
        self._bash.stdin.write(f"{command}\necho '{END}'\n")
        lines = []
        limit = threading.Timer(PATIENCE, self.kill)
        limit.start()
        try:
            for line in self._bash.stdout:
                if line.rstrip("\n") == END:
                    return "".join(lines)
                lines.append(line)
        finally:
            limit.cancel()
        raise AssertionError(f"{command!r} did not end. It has printed:\n{''.join(lines)}")

    def kill(self) -> None:
        """End it, with all that runs in it."""
        os.killpg(self._bash.pid, signal.SIGTERM)  # the servers stop in order

    def close(self) -> None:
        """End what still runs; nothing does after the last step."""
        with self._bash:
            self.kill()


@pytest.fixture
def shell(checkout: Path) -> Iterator[Shell]:
    shell = Shell(checkout)
    yield shell
    shell.close()


def commands(console: str) -> Iterator[tuple[str, str]]:
    """The commands of a block, and what each prints."""
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


def is_as_printed(said: str, printed: str) -> bool:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(printed, said, flags)


def test_the_tutorial_does_what_it_says(shell, checkout):
    for step in STEPS.finditer(TEXT):
        if step["console"] is None:
            with (checkout / step["file"]).open("w" if step["act"] == "Write" else "a") as file:
                file.write(step["code"])
            continue
        for command, printed in commands(step["console"]):
            said = shell.run(command)
            if "idempotency_show" in command and not is_as_printed(said, printed):
                said = shell.run(command)  # the event of a duplicate is written within a second
            assert is_as_printed(said, printed), (
                f"$ {command}\n{said}\nThe tutorial says:\n{printed}"
            )
    assert sorted(path.name for path in checkout.iterdir()) == [
        ".venv", "idempotency", "manage.py", "notifications", "project",
    ]  # fmt: skip


def test_every_block_of_the_tutorial_is_a_step():
    blocks = re.findall(r"^```\w+$", TEXT, re.MULTILINE)
    assert len(blocks) == len(list(STEPS.finditer(TEXT))) > 10
