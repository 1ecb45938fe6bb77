"""Run a job's effects once, however often the job is delivered.

The names below are the front door. They are resolved on first use, because Django imports this
module before its models may be imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idempotency.attempts import current_attempt as current_attempt
    from idempotency.decorators import idempotent as idempotent
    from idempotency.exceptions import IdempotencyError as IdempotencyError
    from idempotency.execution import execute as execute
    from idempotency.keys import ALL_ARGUMENTS as ALL_ARGUMENTS
    from idempotency.keys import TASK_ID as TASK_ID
    from idempotency.policies import Leased as Leased
    from idempotency.policies import OnDoubt as OnDoubt
    from idempotency.policies import Transactional as Transactional
    from idempotency.policies import Verdict as Verdict

_HOME = {
    "ALL_ARGUMENTS": "keys",
    "IdempotencyError": "exceptions",
    "Leased": "policies",
    "OnDoubt": "policies",
    "TASK_ID": "keys",
    "Transactional": "policies",
    "Verdict": "policies",
    "current_attempt": "attempts",
    "execute": "execution",
    "idempotent": "decorators",
}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll] # the names above say it


if not TYPE_CHECKING:  # a checker would take every name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
