"""The page of bad inputs, from their tests: ``python -m tests.docs``."""

from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/bad-input.md"

HEAD = """# Bad input

What is refused, when, and what it says; each row is a test.
"…" stands for what differs from case to case.
A message names the function, the argument and the type of what was given.
It never holds the value of an argument, which may be a secret.
Most messages say what to do; for the others the last column does.
What becomes of a task's message then is on [the page about Celery](celery.md).
"""

NO_ERROR = """
## What is no error

| Two calls have | They are |
| --- | --- |
"""

TAIL = """
A result of `0`, `""`, `[]`, `{}`, `False` or `None` is a result, and is replayed as it is.
Of a key only a hash is kept; with `STORE_KEY` also a readable form, cut to 200 characters.
NUL in the text of an error, or in the id of a message, is stored as "?".
"""


def page() -> str:
    """The text of the page. Django has to be set up."""
    from tests.bad_inputs import accepted, table

    parts = [HEAD]
    for moment in table.MOMENTS:
        parts.append(f"\n## {moment.title}\n\n{moment.text}\n\n")
        parts.append("| You gave | Raised | It says | What to do |\n| --- | --- | --- | --- |\n")
        for case in moment.cases:
            raised = f"`{case.error.__name__}`" if case.error else "nothing; it is logged"
            parts.append(_row(case.given, raised, f"`{case.says}`", case.do))
    parts.append(NO_ERROR)
    parts += [_row(each.given, each.means) for each in accepted.ACCEPTED]
    return "".join([*parts, TAIL])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"
