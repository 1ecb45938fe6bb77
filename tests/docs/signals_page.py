"""The tables in the page of signals, from the code: ``python -m tests.docs``."""

import ast
import inspect
import logging
import re
from itertools import pairwise
from pathlib import Path

from idempotency import signals
from idempotency.logs import LEVELS

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/signals.md"
GENERATED = re.compile(r"(?<=<!-- generated -->\n).*(?=<!-- /generated -->)", re.DOTALL)

SIGNALS = """
## The signals

| Signal | When | Level of its line |
| --- | --- | --- |
"""
ARGUMENTS = """
## The arguments of each

| Argument | Type | Meaning |
| --- | --- | --- |
"""


def page() -> str:
    """The text of the page, with its tables as the code is now."""
    module = ast.parse(inspect.getsource(signals))
    [told] = [node for node in module.body if isinstance(node, ast.ClassDef)]
    rows = [SIGNALS]
    for assignment, meaning in _described(module.body):
        name = ast.unparse(assignment.targets[0])
        rows.append(f"| `{name}` | {meaning} | {logging.getLevelName(LEVELS[name])} |\n")
    rows.append(ARGUMENTS)
    for argument, meaning in _described(told.body[1:]):
        kind = ast.unparse(argument.annotation).replace("|", "or")
        rows.append(f"| `{ast.unparse(argument.target)}` | `{kind}` | {meaning} |\n")
    return GENERATED.sub(lambda _: "".join([*rows, "\n"]), PAGE.read_text())


def _described(body):
    """Each statement that a docstring follows, and its text."""
    for statement, after in pairwise(body):
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
            text = inspect.cleandoc(after.value.value)
            yield statement, text.replace("``", "`").replace("\n", " ")
