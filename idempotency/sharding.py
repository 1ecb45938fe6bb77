"""The database that a call goes to, where it is chosen by the arguments of the call."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from django.db import connections

from idempotency.arguments import Parameters
from idempotency.exceptions import ShardUnknown
from idempotency.jobs import Using


class Sharding:
    """How the calls of one function find their shard."""

    def __init__(
        self, function: Callable[..., object], choose: Callable[..., str], *, scope: str
    ) -> None:
        self._scope = scope
        self._parameters = Parameters(function, scope=scope)
        self._choose = self._parameters.passed_to(choose)

    def alias_for(self, args: tuple[object, ...], kwargs: Mapping[str, object], *, key: str) -> str:
        """The alias of one call.

        Args:
            args: As the function gets them, the task object of a bound task included.
            kwargs: Likewise.
            key: The hash of its key, for an error to name.

        Raises:
            ShardUnknown: The callable returned no alias of ``DATABASES``.
        """
        alias = self._choose(self._parameters.of_call(args, kwargs))
        returned = f"{self._scope}: using (as the callable returned it) is"
        if not isinstance(alias, str):
            raise ShardUnknown(
                f"{returned} of type {type(alias).__qualname__}, and no database alias. Nothing "
                "was run. Let it return an alias for every call.",
                key=key,
            )
        if alias not in connections:
            raise ShardUnknown(
                f"{returned} {alias!r}, which is no database alias in this process. Nothing was "
                "run. Add it to DATABASES, or return another.",
                key=key,
            )
        return alias


def sharding_of(
    function: Callable[..., object], using: Using | None, *, scope: str
) -> Sharding | None:
    """How a function finds its shard; None where all its calls go to one database.

    Raises:
        TypeError: ``using`` is neither an alias nor a callable that takes the arguments.
    """
    if callable(using):
        return Sharding(function, using, scope=scope)
    if using is None or isinstance(using, str):
        return None
    raise TypeError(
        "using= must be a database alias, or a callable that takes the same arguments and returns "
        f"one, got {using!r}."
    )
