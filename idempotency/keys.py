"""What makes two calls the same effect: a call becomes a key and a fingerprint.

`Keying` makes a key of each call of a function, `digest` one of a value at hand.
"""

import enum
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from idempotency.arguments import ArgumentPath, Arguments, Parameters
from idempotency.canonical import canonical, canonical_list, canonical_mapping, place
from idempotency.digests import Digest, Key, Part, check_scope, digest, key_of, part_of
from idempotency.exceptions import KeyMissing

__all__ = [
    "ALL_ARGUMENTS",
    "OTHER_ARGUMENTS",
    "TASK_ID",
    "Digest",
    "Key",
    "KeySpec",
    "Keying",
    "Whole",
    "canonical",
    "digest",
]


class Whole(enum.Enum):
    """What a key or fingerprint can be other than paths and callables."""

    ALL_ARGUMENTS = "ALL_ARGUMENTS"
    TASK_ID = "TASK_ID"
    OTHER_ARGUMENTS = "OTHER_ARGUMENTS"

    def __repr__(self) -> str:
        return self.name


ALL_ARGUMENTS: Final = Whole.ALL_ARGUMENTS
"""Every argument of the call that differs from its default."""
TASK_ID: Final = Whole.TASK_ID
"""The message itself: its redeliveries and retries are one effect, a second send is another."""
OTHER_ARGUMENTS: Final = Whole.OTHER_ARGUMENTS
"""The default fingerprint: the arguments that no path of the key enters."""

KeySpec = str | tuple[str, ...] | Callable[..., object] | Whole

_CHOICES = (
    "Say what makes two deliveries the same effect: a path into the arguments ('order_id', "
    "'event.detail.id'), a tuple of paths (('tenant_id', 'order_id')), a callable that takes the "
    "same arguments, ALL_ARGUMENTS"
)


class _Call(NamedTuple):
    arguments: Arguments
    message: tuple[str, int] | None


_Selector = Callable[[_Call], Part]


class Keying:
    """How the calls of one function become keys. Made, and checked, at decoration.

    Attributes:
        scope: What the keys are unique within.
        uses_task_id: The key is the message: only the body of a task being delivered has one.

    Raises:
        TypeError: the options do not fit the function; the message says what to write.
    """

    def __init__(
        self,
        function: Callable[..., object],
        *,
        key: KeySpec | None,
        fingerprint: KeySpec | None = OTHER_ARGUMENTS,
        scope: str | None = None,
    ) -> None:
        self.scope = _default_scope(function) if scope is None else scope
        check_scope(self.scope)
        self._parameters = Parameters(function, scope=self.scope)
        self.uses_task_id = key is TASK_ID
        self._key = self._of_message if key is TASK_ID else self._selector("key", key)
        self._compared = self._comparison(key, fingerprint)

    def key_for(
        self,
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        *,
        message: tuple[str, int] | None = None,
        secrets: Sequence[str | None] = (),
    ) -> Key:
        """Make the key of one call.

        Args:
            args: As the function gets them, the task object of a bound task included.
            kwargs: Likewise.
            message: Task id and ``replaced_task_nesting`` of the message whose body this call is.
            secrets: What the hashes are signed with; see `Key.digests`.

        Raises:
            TypeError: the function cannot be called like this.
            KeyMissing: the key is None, empty, or not to be found in this call.
            KeyNotHashable: something in key or fingerprint has no canonical form.
        """
        call = _Call(self._parameters.of_call(args, kwargs), message)
        key = self._key(call)
        compared = None if self._compared is None else self._compared(call)
        return key_of(self.scope, key, compared, secrets)

    def _selector(self, option: str, spec: KeySpec | None) -> _Selector:
        """How an option finds its part of a call."""
        parameters, name = self._parameters, f"{self.scope}: {option}"
        if spec is ALL_ARGUMENTS:
            if not len(parameters):
                raise TypeError(
                    f"{parameters.title} has no arguments, so ALL_ARGUMENTS would make all its "
                    "calls one. Give it an argument that tells one effect from the next."
                )
            return partial(self._changed, f"{self.scope}: ALL_ARGUMENTS less the defaults", ())
        if isinstance(spec, str):
            return partial(_found, parameters.path(spec))
        if isinstance(spec, tuple) and spec and all(isinstance(path, str) for path in spec):
            return partial(_all_found, name, [*map(parameters.path, spec)])
        if callable(spec):
            return partial(_returned, name, parameters.passed_to(spec))
        choices = f"{_CHOICES} or TASK_ID." if option == "key" else f"{_CHOICES} or None."
        given = repr(spec) if spec is None or isinstance(spec, Whole) else type(spec).__qualname__
        raise TypeError(f"{parameters.title}: {option}= cannot be {given}. {choices}")

    def _comparison(self, key: KeySpec | None, fingerprint: KeySpec | None) -> _Selector | None:
        if fingerprint is None:
            return None
        if fingerprint is not OTHER_ARGUMENTS:
            return self._selector("fingerprint", fingerprint)
        name = f"{self.scope}: fingerprint"
        if isinstance(key, str | tuple):
            paths = map(self._parameters.path, (key,) if isinstance(key, str) else key)
            return partial(self._changed, name, {path.steps[0] for path in paths})
        nothing = part_of({}, name)
        return lambda call: nothing

    def _changed(self, name: str, apart_from: Container[str], call: _Call) -> Part:
        encodings = self._parameters.changed(call.arguments, apart_from=apart_from)
        value = {argument: call.arguments[argument] for argument in encodings}
        return Part(name, value, canonical_mapping(encodings, name=name))

    def _of_message(self, call: _Call) -> Part:
        if call.message is None:
            raise KeyMissing(
                f"{self.scope}: key=TASK_ID works only as the body of a task that is being "
                "delivered, and here there is no message. Use another key."
            )
        return part_of(call.message, f"{self.scope}: TASK_ID")


def _found(path: ArgumentPath, call: _Call) -> Part:
    value = path.value_in(call.arguments)
    return Part(place((path.name, *path.steps[1:])), value, path.encoded(value))


def _all_found(name: str, paths: list[ArgumentPath], call: _Call) -> Part:
    parts = tuple(_found(path, call) for path in paths)
    encoded = canonical_list(part.encoded for part in parts)
    return Part(name, [part.value for part in parts], encoded, parts)


def _returned(name: str, function: Callable[[Arguments], object], call: _Call) -> Part:
    return part_of(function(call.arguments), f"{name} (as the callable returned it)")


def _default_scope(function: Callable[..., object]) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    scope = f"{function.__module__}.{name}"
    if function.__module__ == "__main__" or "<" in name:
        raise TypeError(
            f"{scope} is not a lasting name for its keys: another process, or another function, "
            'can have the same. Give scope="...".'
        )
    return scope
