"""The page of settings, from the docstrings of ``Conf``."""

import ast
import inspect
import textwrap
from pathlib import Path

from idempotency.conf import DEFAULTS, Conf

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/settings.md"

HEAD = """# Settings

One dict in the Django settings, in which nothing is required:

```python
from datetime import timedelta

IDEMPOTENCY = {"LEASE": timedelta(minutes=2), "RETENTION": timedelta(days=90)}
```

It is read when it is used, so that `override_settings` works.
An option that is not known, and a value of a wrong type or range, is refused.
[`manage.py check`](checks.md) reports it.
"""


def page() -> str:
    """The text of the page."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(Conf))).body
    assert isinstance(definition, ast.ClassDef)
    sections = [HEAD]
    for option, docstring in zip(definition.body[1::2], definition.body[2::2], strict=True):
        assert isinstance(option, ast.AnnAssign)
        assert isinstance(option.value, ast.expr)
        assert isinstance(option.target, ast.Name)
        assert isinstance(docstring, ast.Expr)
        meaning = inspect.cleandoc(ast.literal_eval(docstring.value)).replace("``", "`")
        default = ast.unparse(option.value)
        assert option.target.id in DEFAULTS
        sections.append(
            f"\n## {option.target.id}\n\n{meaning}\n\nDefault: `{default}`, "
            f"a `{ast.unparse(option.annotation)}`.\n"
        )
    return "".join(sections)
