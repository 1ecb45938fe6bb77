"""The table of sabotaged builds in the page of storms, from the lists of mutants.

Only what stands between the two marks is generated.
"""

from tests.docs.blocks import ROOT
from tests.mutants.__main__ import MUTANTS
from tests.mutants.sabotage import SABOTAGES
from tests.mutants.storms import FULL

PAGE = ROOT / "docs/explanation/storms.md"
BEGIN, END = "<!-- made of: tests/mutants/sabotage.py -->\n", "<!-- end of made of -->\n"
HEADS = ["The sabotage", "Whose design that is", "A test reports it", "A storm reports it"]

#: By name.
KNOWN = {mutant.breaks: mutant for mutant in MUTANTS}


def page() -> str:
    """The text of the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after, f"{PAGE} has lost its marks."
    return f"{before}{BEGIN}\n{_table()}\n{END}{after}"


def _table() -> str:
    lines = [HEADS, ["---"] * len(HEADS)]
    for each in SABOTAGES:
        suite, storm = KNOWN[each.suite], KNOWN[each.storm]
        said = f"{'full' if storm.tests == FULL else 'brief'}{'' if storm.is_long else ', in CI'}"
        lines.append([each.is_, each.rivals, f"`{suite.tests}`", said])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
