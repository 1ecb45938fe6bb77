"""A file becomes rows. What is wrong with a bad one is said with its line."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from django.core.exceptions import ValidationError

from notifications.models import Message

COLUMNS = ("recipient", "subject", "body")


class Unreadable(Exception):
    """The file as a whole cannot be read."""


@dataclass
class Rows:
    """The good rows, and ``(line, reason)`` for each bad one."""

    good: list[dict[str, str]] = field(default_factory=list)
    bad: list[tuple[int, str]] = field(default_factory=list)


def read(name: str, content: bytes) -> Rows:
    """Read the content of a file; its name says how.

    Raises:
        Unreadable: The extension is not known, or the header of a CSV file is not ours.
    """
    extension = PurePath(name).suffix.lower()
    if extension not in _PARSERS:
        raise Unreadable(f"{name}: its name must end in {', '.join(_PARSERS)}.")
    # A wrong byte becomes a lone surrogate, so that it spoils its own row only.
    text = content.decode("utf-8-sig", errors="surrogateescape")
    rows, lines = Rows(), dict[tuple[str, ...], int]()
    for line, found in _PARSERS[extension](text):
        reason = found if isinstance(found, str) else _fault(found)
        if isinstance(found, str) or reason:
            rows.bad.append((line, reason))
            continue
        row = {column: str(found[column]) for column in COLUMNS}
        first = lines.setdefault(tuple(row.values()), line)
        if first == line:
            rows.good.append(row)
        else:
            rows.bad.append((line, f"the same message as line {first}"))
    return rows


def _fault(row: dict[str, object]) -> str:
    """What is wrong with the row, or an empty text."""
    for column in COLUMNS:
        value = row.get(column)
        if value is None:
            return f"{column}: missing"
        if not isinstance(value, str):
            return f"{column}: must be text, not {type(value).__name__}"
        if not value.strip():
            return f"{column}: empty"
    if unknown := row.keys() - set(COLUMNS):
        return f"unknown column {min(unknown)!r}"
    try:
        Message(**row).clean_fields(exclude={"campaign"})
    except ValidationError as error:
        return "; ".join(f"{name}: {' '.join(said)}" for name, said in error.message_dict.items())
    return ""


def _csv(text: str) -> Iterator[tuple[int, dict[str, object] | str]]:
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # the default ends at 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = _header(reader)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # a row may span lines: say how many went with it
            yield line, f"not CSV, skipped up to line {reader.line_num}: {error}"
            continue
        if len(cells) == len(header):
            yield line, dict(zip(header, cells, strict=True))
        elif cells:
            yield line, f"{len(cells)} columns instead of {len(header)}"


def _header(reader: Iterator[list[str]]) -> list[str]:
    try:
        header = [name.strip().lower() for name in next(reader, [])]
    except csv.Error:
        header = []
    if sorted(header) != sorted(COLUMNS):
        raise Unreadable(f"The first line of a CSV file must be: {','.join(COLUMNS)}")
    return header


def _json_lines(text: str) -> Iterator[tuple[int, dict[str, object] | str]]:
    for line, raw in enumerate(text.split("\n"), start=1):
        if not raw.strip():
            continue
        try:
            found = json.loads(raw)
        except json.JSONDecodeError as error:
            yield line, f"not JSON: {error.msg} at column {error.colno}"
        except (ValueError, RecursionError):  # a number of 5,000 digits; 5,000 brackets
            yield line, "not JSON that can be read: too long a number, or nested too deeply"
        else:
            yield line, found if isinstance(found, dict) else "not a JSON object"


_PARSERS = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines}
