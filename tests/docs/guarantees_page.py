"""The tables of crash points in the page of guarantees, from what the harness has observed.

Only what stands between the two marks is generated.
"""

from collections.abc import Iterable

from tests.crashes.faults import Again, Fault, Phase
from tests.crashes.outcomes import Outcome, read
from tests.crashes.situations import PUBLISHED
from tests.docs.blocks import ROOT

PAGE = ROOT / "docs/explanation/guarantees.md"
BEGIN, END = "<!-- observed: python -m tests.crashes -->\n", "<!-- end of observed -->\n"
HEADS = [
    "It strikes",
    "By",
    "It leaves",
    "That delivery",
    "One beside it",
    "The next, at once",
    "The next, after the lease",
    "An operator sees",
    "Effects",
]
STANDS = {
    "no effect, no record": "nothing",
    "no effect, running": "a claim",
    "no effect, failed": "a failure",
    "no effect, in doubt": "a doubt",
    "the effect, running": "the effect, a claim",
    "the effect, in doubt": "the effect, a doubt",
    "the effect, failed": "the effect, a failure",
    "the effect, succeeded": "the effect, a success",
}
SAYS = {
    "ran": "succeeds",
    "replayed": "is answered",
    "is dead": "is dead",
    "Struck": "raises it",
}
NEXT = {
    "ran": "runs",
    "replayed": "is answered",
    "AlreadyRunning": "is deferred",
    "InDoubt": "is parked",
}
#: In the order in which a delivery comes to them.
PHASES = list(Phase)

Cells = tuple[str, ...]


def page() -> str:
    """The text of the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after, f"{PAGE} has lost its marks."
    outcomes = read()
    tables = "\n".join(_table(job.name, outcomes) for job in PUBLISHED)
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def _table(job: str, outcomes: set[Outcome]) -> str:
    lines = [HEADS, ["---"] * len(HEADS)]
    for phases, faults, cells in _rows(job, outcomes):
        where = "; ".join(phase.value for phase in phases)
        lines.append([where, ", ".join(fault.value for fault in faults), *cells])
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"### {job}\n\n{text}"


def _rows(
    job: str, outcomes: set[Outcome]
) -> Iterable[tuple[list[Phase], tuple[Fault, ...], Cells]]:
    """Faults with the same cells in one row, and neighbouring phases with the same rows too."""
    rows: list[tuple[list[Phase], tuple[Fault, ...], Cells]] = []
    for phase in PHASES:
        here = {each for each in outcomes if (each.job, each.phase) == (job, phase)}
        for cells, faults in _merged(here):
            same = next((row for row in rows if row[1:] == (faults, cells)), None)
            if same:
                same[0].append(phase)
            else:
                rows.append(([phase], faults, cells))
    return rows


def _merged(here: set[Outcome]) -> list[tuple[Cells, tuple[Fault, ...]]]:
    by_cells: dict[Cells, tuple[Fault, ...]] = {}
    for fault in Fault:
        struck = {each for each in here if each.fault is fault}
        if struck:
            cells = _cells(struck)
            by_cells[cells] = (*by_cells.get(cells, ()), fault)
    return list(by_cells.items())


def _cells(struck: set[Outcome]) -> Cells:
    alone = {each for each in struck if each.again is not Again.CONCURRENTLY}
    return (
        _said(STANDS[each.observed.stands] for each in alone),
        _said(SAYS.get(each.observed.says, f"raises `{each.observed.says}`") for each in alone),
        *(
            _said(
                NEXT.get(each.observed.next, f"raises `{each.observed.next}`")
                for each in struck
                if each.again is again
            )
            for again in (Again.CONCURRENTLY, Again.AT_ONCE, Again.AFTER_LEASE)
        ),
        _said(_seen(each.observed.seen) for each in alone),
        _said(str(each.observed.effects) for each in struck),
    )


def _seen(text: str) -> str:
    """The state of the record, and the events in brackets."""
    record, *events = text.removeprefix("record: ").split(", ")
    named = ", ".join(f"`{event}`" for event in sorted(events))
    return f"{record} ({named})" if named else record


def _said(words: Iterable[str]) -> str:
    return " or ".join(sorted(set(words)))
