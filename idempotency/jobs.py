"""The decorated functions of this process, by scope."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from idempotency.policies import Policy

Using = str | Callable[..., str]
"""A database alias, or what chooses one by the arguments of a call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A decorated function, as those who look after its records need to know it."""

    #: Module and qualified name of the function.
    name: str
    policy: Policy
    using: Using | None
    retention: timedelta | None
    signature: inspect.Signature
    #: What the key is taken from, as far as it is said: paths into the arguments, or their names.
    key_paths: tuple[str, ...]
    #: Whether the key is the message, so that no two of them have one.
    uses_task_id: bool = False

    @property
    def alias(self) -> str | None:
        """Of all calls; None is the setting ``DATABASE``, or what ``using`` chooses for each."""
        return None if callable(self.using) else self.using

    def by_name(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The arguments of a call by name, without a task's ``self``; None if they do not fit."""
        try:
            return dict(self.signature.bind(*args, **kwargs).arguments)
        except TypeError:
            return None


#: By scope. Filled when the modules with the functions are imported.
jobs: dict[str, Job] = {}

#: Scope, and the names of two functions that have it.
clashes: set[tuple[str, str, str]] = set()

#: Set by ``contrib``: each imports the modules in which decorated functions are to be expected.
loaders: list[Callable[[], None]] = []

_loading = False


def register(scope: str, job: Job) -> None:
    """Make a job known. The same function may come twice: its module was loaded again."""
    known = jobs.setdefault(scope, job)
    if known.name != job.name:
        clashes.add((scope, known.name, job.name))
    jobs[scope] = job


def all_jobs() -> Mapping[str, Job]:
    """The jobs of the project, by scope. Imports the modules with its tasks first.

    A module that asks for this while it is being imported gets what is known so far.

    Raises:
        Exception: What the import of such a module raises.
    """
    global _loading
    if not _loading:
        _loading = True
        try:
            for load in loaders:
                load()
        finally:
            _loading = False
    return jobs
