"""Types, a wheel, a pool, a pooler."""

from tests.mutants import Mutant

TYPES = "tests/types/test_samples.py"
ONE_BACKEND = "tests/storage/test_one_backend.py"

MUTANTS = [
    Mutant(
        "let a checker forget the arguments of a decorated function",
        "decorators.py",
        ") -> Callable[[Callable[P, R]], Callable[P, R]]:",
        ") -> Callable[[Callable[P, R]], Callable[..., R]]:",
        f"{TYPES} -k mypy",
    ),
    Mutant(
        "let a checker take every name for one of the package",
        "__init__.py",
        "if not TYPE_CHECKING:",
        "if True:",
        f"{TYPES} -k pyright",
    ),
    Mutant(
        "take the type of our keys from the project's settings",
        "models.py",
        "    id = models.BigAutoField(primary_key=True)\n"
        '    key_hash = models.UUIDField(_("key hash"))\n',
        '    key_hash = models.UUIDField(_("key hash"))\n',
        "tests/house/test_migrations.py",
    ),
    Mutant(
        "leave a timeout behind on the pooler's backend",
        "storage/postgresql.py",
        "set_config('lock_timeout', %(limit)s, true)",
        "set_config('lock_timeout', %(limit)s, false)",
        f"{ONE_BACKEND} -k behind",
    ),
    Mutant(
        "leave a setting behind on the pooler's backend",
        "storage/postgresql.py",
        "set_config('synchronous_commit', 'on', true)",
        "set_config('synchronous_commit', 'on', false)",
        f"{ONE_BACKEND} -k behind",
    ),
    Mutant(
        "leave a lock behind on the pooler's backend",
        "storage/postgresql.py",
        'f"pg_try_advisory_xact_lock({n})"',
        'f"pg_try_advisory_lock({n})"',
        f"{ONE_BACKEND} -k behind",
    ),
]
