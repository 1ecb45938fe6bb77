"""What is said of what is dropped, and of what cannot be done yet."""

from tests.mutants import Mutant

GATHERING = "tests/execution/test_gathering.py"

MUTANTS = [
    Mutant(
        "tidy: drop events and say nothing",
        "events.py",
        "        if dropped:\n",
        "        if False:\n",
        f"{GATHERING} -k is_dropped_is_counted",
    ),
    Mutant(
        "tidy: say again what was dropped before",
        "events.py",
        "dropped, self._dropped = self._dropped, 0",
        "dropped = self._dropped",
        f"{GATHERING} -k is_dropped_is_counted",
    ),
]
