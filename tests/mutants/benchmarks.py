"""A benchmark that measures something else than it says."""

from tests.mutants import Mutant

HERE = "../tests/benchmarks"
TESTS = "tests/benchmarks/test_benchmarks.py"

MUTANTS = [
    Mutant(
        "benchmark: take a first execution for a duplicate",
        f"{HERE}/rounds.py",
        "key=lambda subject: subject.again",
        "key=lambda subject: not subject.again",
        f"{TESTS} -k duplicate_comes_after",
    ),
    Mutant(
        "benchmark: take the ratio over all rounds at once",
        f"{HERE}/rounds.py",
        "return median(self._ratios(name))",
        "return median(self.times[name]) / median(self.times[self.subjects[name].base])",
        f"{TESTS} -k of_the_same_round",
    ),
    Mutant(
        "benchmark: measure another that does the job twice",
        f"{HERE}/others.py",
        'assert Effect.objects.count() == before + 1, "the job was not done once"',
        "pass",
        f"{TESTS} -k job_twice",
    ),
    Mutant(
        "benchmark: lose what has no place in its page",
        f"{HERE}/writing.py",
        "if number != 1:",
        "if number > 1:",
        f"{TESTS} -k no_place",
    ),
    Mutant(
        "benchmark: draw all bars as long",
        f"{HERE}/drawing.py",
        "length = max(1, value * scale)",
        "length = max(1, widest * scale)",
        f"{TESTS} -k as_long_as",
    ),
]
