"""What a call costs, and what costs it nothing."""

from tests.mutants import Mutant

MUTANTS = [
    Mutant(
        "cost: take settings that have changed for those that were judged",
        "conf.py",
        "if given is known and given == then:",
        "if given is known:",
        "tests/unit/test_conf.py -k where_they_stand",
    ),
    Mutant(
        "cost: bind without a look at what was passed by name",
        "arguments.py",
        "if not kwargs and self._plain",
        "if self._plain",
        "tests/unit/test_keys.py -k does_not_fit",
    ),
]
