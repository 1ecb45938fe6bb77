"""What was found: printed, and written into the pages of docs/benchmarks/.

A page is written by hand. What is measured stands in it between two marks, and is written anew.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from django.db import connection


def versions() -> dict[str, str]:
    """Of what runs in this process."""
    names = ("Django", "psycopg", "celery")
    return {"Python": platform.python_version(), **{name: version(name) for name in names}}


@dataclass
class Findings:
    """What a part has found.

    Attributes:
        part: The name of the page.
        blocks: Text in Markdown, by the name of its marks.
        drawings: SVG, by the name of its file.
        warnings: Why the figures are not to be trusted, or not complete.
        headline: The most important of it, for the page that leads to the others.
        versions: Under which it was found; those of this process, if no other says so.
    """

    part: str
    headline: str = ""
    blocks: dict[str, str] = field(default_factory=dict)
    drawings: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    versions: Mapping[str, str] = field(default_factory=versions)

    def distrust(self, load: float) -> None:
        """Say that others were at work on the machine when it began."""
        self.warnings.append(
            f"NOT TO BE TRUSTED: other work kept the machine busy (a load of {load:.0f} on "
            f"{os.cpu_count()} cores). Times then say how often a call waits for a processor, more "
            "than what it does; counts are as always."
        )
        self.headline = "".join(
            f"{line} *Made on a busy machine: not to be trusted.*\n"
            for line in self.headline.splitlines()
        )

    def show(self) -> None:
        """Print it."""
        for block in (*self.blocks.values(), self.headline):
            print(block, flush=True)
        for warning in self.warnings:
            print(f"!!! {warning}", flush=True)

    def write(self, folder: Path) -> None:
        """Write it into its page, and its headline into the index.

        Raises:
            ValueError: The page has lost its marks.
        """
        blocks = {**self.blocks, "warnings": self._warned()}
        _fill(folder / f"{self.part}.md", blocks)
        _fill(folder / "index.md", {self.part: self.headline})
        for name, drawing in self.drawings.items():
            (folder / name).write_text(drawing)

    def _warned(self) -> str:
        return "".join(f"- **{warning}**\n" for warning in self.warnings)


def _fill(page: Path, blocks: dict[str, str]) -> None:
    text = page.read_text()
    for name, block in blocks.items():
        begin, end = f"<!-- measured: {name} -->\n", "<!-- end of measured -->"
        pattern = re.compile(f"({re.escape(begin)}).*?({re.escape(end)})", re.DOTALL)
        text, number = pattern.subn(lambda marks, block=block: _between(marks, block), text)
        if number != 1:
            raise ValueError(f"{page} has {number} places for {name!r}, and should have one.")
    page.write_text(text)


def _between(marks: re.Match[str], block: str) -> str:
    before, after = marks.groups()
    return f"{before}\n{block}\n{after}" if block else f"{before}{after}"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, words: int = 0) -> str:
    """A table in Markdown: figures, but for the first column and so many of the last."""
    figures = len(heads) - 1 - words
    lines = [heads, ["---", *["--:"] * figures, *["---"] * words], *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def made(command: str, *, load_before: float, under: Mapping[str, str]) -> str:
    """Where, when, by which command and under which versions the figures were made."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        [server] = cursor.fetchone()
    said = ", ".join(f"{name} {number}" for name, number in {**under, "PostgreSQL": server}.items())
    return (
        f"Made by `{command}` on {datetime.now(UTC):%Y-%m-%d}: {_processor()}, "
        f"{os.cpu_count()} cores, {platform.system()} {platform.release()}; {said}. "
        f"The load of the machine was {load_before:.1f} before and {os.getloadavg()[0]:.1f} after "
        "(the benchmark itself makes about 1).\n"
    )


def _processor() -> str:
    try:
        described = Path("/proc/cpuinfo").read_text()
    except FileNotFoundError:
        return platform.machine()
    named = re.search(r"model name\s*: (.*)", described)
    return named.group(1) if named else platform.machine()
