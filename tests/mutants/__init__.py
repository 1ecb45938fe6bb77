"""What is broken, one line at a time. A list of them for each part of the app stands beside."""

from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutant:
    """One breakage, and the tests of which at least one must fail."""

    breaks: str
    file: str
    before: str
    after: str
    tests: str
    #: Whether it runs only if it is named.
    is_long: bool = False

    def is_stale(self) -> bool:
        """Whether the line that it breaks is not there, or is not the only one."""
        return (CHECKOUT / "idempotency" / self.file).read_text().count(self.before) != 1

    def apply(self, checkout: Path) -> None:
        path = checkout / "idempotency" / self.file
        path.write_text(path.read_text().replace(self.before, self.after))
