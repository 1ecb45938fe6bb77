"""What was observed, in a file beside this one; the page of guarantees is made of it.

Written anew by ``python -m tests.crashes``.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.crashes.faults import Again, Fault, Phase
from tests.crashes.scenario import Observed, Scenario

FILE = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Outcome:
    """One row of the file: where a delivery was struck, and what was observed."""

    job: str
    phase: Phase
    fault: Fault
    again: Again
    observed: Observed

    @classmethod
    def of(cls, scenario: Scenario) -> "Outcome":
        assert scenario.observed is not None
        name, phase = scenario.situation.name, scenario.phase
        return cls(name, phase, scenario.fault, scenario.again, scenario.observed)


def read(file: Path = FILE) -> set[Outcome]:
    return {
        Outcome(
            row["job"],
            Phase(row["phase"]),
            Fault(row["fault"]),
            Again(row["again"]),
            Observed(**row["observed"]),
        )
        for row in json.loads(file.read_text())
    }


def write(outcomes: Iterable[Outcome], file: Path = FILE) -> None:
    rows = [
        {
            "job": each.job,
            "phase": each.phase.value,
            "fault": each.fault.value,
            "again": each.again.value,
            "observed": asdict(each.observed),
        }
        for each in outcomes
    ]
    rows.sort(key=json.dumps)
    lines = ",\n".join(json.dumps(row) for row in rows)
    file.write_text(f"[\n{lines}\n]\n")
