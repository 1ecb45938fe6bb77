"""The page of errors, from the docstrings of our exceptions and the rows of the page on Celery."""

import inspect
import re

from idempotency import exceptions
from tests.docs.blocks import ROOT

PAGE = ROOT / "docs/reference/errors.md"
CELERY = ROOT / "docs/reference/celery.md"

HEAD = """# Errors

They live in `idempotency.exceptions`, and have one base: `idempotency.IdempotencyError`.
Its `key` is the hash of the record's key, 32 hex digits, or `None` where there is none yet.
The rows are those of [under Celery](celery.md#our-exceptions), where each names its test.
"""

TABLE = """
| | Celery shows | The message | Who acts |
| --- | --- | --- | --- |
"""


def ours() -> dict[str, type[BaseException]]:
    """Each exception but the base, by name, in the order of the module."""
    kinds = {name: kind for name, kind in vars(exceptions).items() if isinstance(kind, type)}
    del kinds["IdempotencyError"]
    return kinds


def page() -> str:
    """The text of the page."""
    return HEAD + "".join(_section(name, kind) for name, kind in ours().items())


def _section(name: str, kind: type[BaseException]) -> str:
    docstring = (inspect.getdoc(kind) or "").replace("``", "`")
    paragraphs = [" ".join(part.split()) for part in docstring.split("\n\n")]
    assert len(paragraphs) == 2, f"{name}: say in a second paragraph what to do."
    fact, advice = paragraphs
    rows = TABLE + "".join(f"{row}\n" for row in _under_celery(name))
    return f"\n## {name}\n\n{fact}\n\n*What to do.* {advice}\n{rows}"


def _under_celery(name: str) -> list[str]:
    rows = [line for line in CELERY.read_text().splitlines() if line.startswith("| `")]
    return [
        row.rpartition(" | ")[0] + " |"  # without its test
        for row in rows
        if name in re.findall(r"`(\w+)`", row.split(" | ")[0])
    ]
