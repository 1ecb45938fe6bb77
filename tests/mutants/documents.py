"""What the docs say of the app, and what they let the reader do."""

from tests.mutants import Mutant

REFERENCE = "tests/docs/test_reference.py"
PROSE = "tests/docs/test_prose.py"
SITE = "tests/docs/test_site.py"

MUTANTS = [
    Mutant(
        "docs: a transition that is on the page is not in the table",
        "states.py",
        "State.IN_DOUBT: frozenset({State.SUCCEEDED, State.FAILED}),",
        "State.IN_DOUBT: frozenset({State.SUCCEEDED}),",
        f"{REFERENCE} -k made_of_the_code",
    ),
    Mutant(
        "docs: an exception says something else than its page",
        "exceptions.py",
        "Give the inner call a key or a scope of its own.",
        "Give up.",
        f"{REFERENCE} -k made_of_the_code",
    ),
    Mutant(
        "docs: a column means something else than its page says",
        "models.py",
        '_("How often the key was claimed.")',
        '_("How often the body ran.")',
        f"{REFERENCE} -k made_of_the_code",
    ),
    Mutant(
        "docs: a hung body is seen later than the text says",
        "leased.py",
        "MAX_RUN = timedelta(hours=1)",
        "MAX_RUN = timedelta(hours=2)",
        PROSE,
    ),
    Mutant(
        "docs: a busy message comes later than the text says",
        "contrib/celery.py",
        "SHORTEST_DEFERRAL, LONGEST_DEFERRAL = 2.0, 30.0",
        "SHORTEST_DEFERRAL, LONGEST_DEFERRAL = 2.0, 60.0",
        PROSE,
    ),
    Mutant(
        "docs: a public name is not described",
        "__init__.py",
        '    "idempotent": "decorators",',
        '    "idempotent": "decorators", "Doubt": "policies",',
        f"{SITE} -k public_name",
    ),
    Mutant(
        "docs: a docstring names an exception that is not there",
        "resolution.py",
        "        NotSettled: It is running",
        "        NotReady: It is running",
        f"{SITE} -k without_a_warning",
    ),
    Mutant(
        "docs: a webhook whose event is at work is not told to come again",
        "calls.py",
        "        if not look.locked:",
        "        if False:",
        "tests/docs/test_pages.py -k tells_its_sender",
    ),
    Mutant(
        "docs: a duplicate of the tutorial runs",
        "calls.py",
        "            if known.state is State.SUCCEEDED:",
        "            if False:",
        "tests/docs/test_tutorial.py",
    ),
]
