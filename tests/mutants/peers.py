"""Benchmarks of the others, of the layers and of a busy key that say what they did not see."""

from tests.mutants import Mutant

HERE = "../tests/benchmarks"
TESTS = "tests/benchmarks/test_benchmarks.py"

MUTANTS = [
    Mutant(
        "peers page: take an effect that outlives its record for one commit",
        f"{HERE}/others.py",
        'assert not effects.exists(), "the effect has outlived its record"',
        "pass",
        f"{TESTS} -k outlives_it",
    ),
    Mutant(
        "peers page: take a job that was lost for one that was done",
        f"{HERE}/others.py",
        'assert effects.count() == 1, "the job was lost"',
        "pass",
        f"{TESTS} -k job_is_lost",
    ),
    Mutant(
        "peers page: kill nobody",
        f"{HERE}/others.py",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "pass",
        f"{TESTS} -k leaves_nothing",
    ),
    Mutant(
        "peers page: do not say why one was skipped",
        f"{HERE}/peers.py",
        'f"skipped: {why}"',
        '"skipped"',
        f"{TESTS} -k row_says_why",
    ),
    Mutant(
        "peers page: try what needs a newer Python",
        f"{HERE}/peering.py",
        "if sys.version_info < other.python:",
        "if False:",
        f"{TESTS} -k row_says_why",
    ),
    Mutant(
        "peers page: measure them where another part has had the keys",
        f"{HERE}/peers.py",
        '"DATABASE_URL": url,',
        '"DATABASE_URL": os.environ["DATABASE_URL"],',
        f"{TESTS} -k measured_beside_the_others",
    ),
    Mutant(
        "peers page: give Python's own time to nobody",
        f"{HERE}/profiling.py",
        "for module, function in reversed(stack):",
        "for module, function in stack[-1:]:",
        f"{TESTS} -k innermost_layer",
    ),
    Mutant(
        "peers page: take the processor's time for waiting",
        f"{HERE}/profiling.py",
        "1e6 * (median(self.walls) - median(self.cpus))",
        "1e6 * median(self.walls)",
        f"{TESTS} -k are_together",
    ),
    Mutant(
        "peers page: draw a frame beside who called it",
        f"{HERE}/drawing.py",
        "x, width = begins[stack[:-1]], times * across",
        "x, width = begins[()], times * across",
        f"{TESTS} -k as_wide_as",
    ),
    Mutant(
        "peers page: reckon a queue where there is a core for each",
        f"{HERE}/busy.py",
        "turns = max(1, processes / cores)",
        "turns = processes",
        f"{TESTS} -k turns_of_those",
    ),
]
