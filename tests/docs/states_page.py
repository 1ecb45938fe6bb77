"""The page of states, from the table of their transitions and the models."""

from collections.abc import Iterable

from django.db import models

from idempotency.models import IdempotencyEvent, IdempotencyRecord, Kind, ParkedMessage, Reason
from idempotency.states import TRANSITIONS, State
from tests.docs.blocks import ROOT

PAGE = ROOT / "docs/reference/states.md"

HEAD = """# States and tables

A record has one of four states, stored lower-case and never renamed.
Each change of a state is one guarded statement.
The database of the tests refuses a transition that is not in the table.
"""

#: What each state means to the next delivery.
MEANINGS = {
    State.RUNNING: "An attempt holds the key, under a lease; another delivery is deferred.",
    State.SUCCEEDED: "The effect has happened; a duplicate is answered with the result.",
    State.FAILED: "Nothing stands of it, or the provider knows a repeat: a delivery may claim.",
    State.IN_DOUBT: "The effect may or may not have happened; nothing runs until it is resolved.",
}

#: What makes each transition. One that is not here, or not in the code, has no page.
CAUSES = {
    (None, State.RUNNING): "A leased attempt claims, or a redelivered one notes its start.",
    (None, State.SUCCEEDED): "A transactional attempt commits; it had no row before.",
    (None, State.FAILED): "A transactional body failed, and that is noted after the rollback.",
    (State.RUNNING, State.SUCCEEDED): "The attempt settles: it has returned.",
    (State.RUNNING, State.FAILED): (
        "The attempt settles: certainly no effect, or one that may be repeated. "
        "Or too many have died: the record is exhausted. "
        "Or its claim was released."
    ),
    (State.RUNNING, State.IN_DOUBT): (
        "The attempt raised after its effect began, its lease ran out, or its claim was released, "
        "and nobody may repeat."
    ),
    (State.SUCCEEDED, State.RUNNING): "It was forgotten, and a leased attempt claims.",
    (State.SUCCEEDED, State.FAILED): (
        "It was allowed again; or it was forgotten, and a new attempt failed."
    ),
    (State.FAILED, State.RUNNING): "A later delivery takes over.",
    (State.FAILED, State.SUCCEEDED): "A later transactional attempt commits.",
    (State.FAILED, State.IN_DOUBT): "The provider does not know a repeat any more.",
    (State.IN_DOUBT, State.SUCCEEDED): "Resolved: it happened.",
    (State.IN_DOUBT, State.FAILED): "Resolved: it did not happen.",
}


def page() -> str:
    """The text of the page."""
    legal = {(a, b) for a, states in TRANSITIONS.items() for b in states}
    assert CAUSES.keys() == legal, f"Say what makes these: {legal ^ CAUSES.keys()}."
    states = _table(["State", "It means"], ([f"`{s.value}`", MEANINGS[s]] for s in State))
    transitions = _table(
        ["From", "To", "By"],
        ([f"`{a.value}`" if a else "no record", f"`{b.value}`", c] for (a, b), c in CAUSES.items()),
    )
    return (
        f"{HEAD}\n{states}\n## Transitions\n\n{transitions}"
        + _columns(IdempotencyRecord)
        + _columns(IdempotencyEvent)
        + _choices("kind", Kind)
        + _columns(ParkedMessage)
        + _choices("reason", Reason)
    )


def _columns(model: type[models.Model]) -> str:
    docstring = " ".join((model.__doc__ or "").split())
    rows = (
        [
            f"`{field.column}`",
            field.get_internal_type(),
            "yes" if field.null else "",
            str(field.help_text),
        ]
        for field in model._meta.local_fields
    )
    table = _table(["Column", "Type", "NULL", "It says"], rows)
    return f"\n## {model.__name__}\n\n{docstring}\nIts table: `{model._meta.db_table}`.\n\n{table}"


def _choices(column: str, choices: type[models.TextChoices]) -> str:
    rows = ([f"`{choice.value}`", str(choice.label)] for choice in choices)
    return "\n" + _table([f"`{column}`", "It says"], rows)


def _table(heads: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
