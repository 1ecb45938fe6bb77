"""The arguments of a call by name, and paths into them."""

import difflib
import inspect
import json
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from inspect import Parameter
from typing import Any, Final

from idempotency.canonical import canonical, json_name, place
from idempotency.exceptions import KeyMissing, KeyNotHashable

_ABSENT: Final = object()

Arguments = dict[str, object]
"""The arguments of one call by name, with the defaults; entries of ``**kwargs`` as their own."""


@dataclass(frozen=True, slots=True)
class ArgumentPath:
    """A way into the arguments of a call, such as ``event.detail.id``.

    Attributes:
        name: The argument as errors call it: ``billing.charge: argument 'event'``.
        steps: The argument, then the keys, indexes or attributes below it.
    """

    name: str
    steps: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.steps)

    def value_in(self, arguments: Arguments) -> object:
        """Follow the path through mappings, lists (``items.0``) and attributes.

        Raises:
            KeyMissing: it leads nowhere in this call.
        """
        found: object = arguments
        for position, step in enumerate(self.steps):
            inside, found = found, _below(found, step)
            if found is _ABSENT:
                where = place((self.name, *self.steps[1:position])) if position else self.name
                missing = f"has no {step!r}" if position else "is not in this call by name"
                raise KeyMissing(
                    f"{where} {missing} (path '{self}'{_names_in(inside)}). Nothing was run. Pass "
                    "it, or choose another path."
                )
        return found

    def encoded(self, value: object) -> bytes:
        """Encode what the path has found; see `canonical`."""
        return canonical(value, name=self.name, at=self.steps[1:])


class Parameters:
    """The parameters of one function; ``self`` of a bound task is not among them.

    Attributes:
        title: The function as a person would write it: ``send(order_id, user_id)``.
    """

    def __init__(self, function: Callable[..., object], *, scope: str) -> None:
        self._scope = scope
        self._signature = inspect.signature(function)
        parameters = list(self._signature.parameters.values())
        self._bound = bool(parameters) and parameters[0].name == "self"
        self._parameters = parameters[1:] if self._bound else parameters
        #: All of them, ``self`` too, if each can be passed by position; else none.
        self._plain = [
            parameter.name
            for parameter in parameters
            if parameter.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        ]
        if len(self._plain) < len(parameters):
            self._plain = []
        self._star = self._names(Parameter.VAR_POSITIONAL)
        self._stars = self._names(Parameter.VAR_KEYWORD)
        self._defaults: Arguments = {
            parameter.name: parameter.default
            for parameter in self._parameters
            if parameter.default is not Parameter.empty
        }
        self._encoded_defaults = _encodings(self._defaults)
        bare = (
            str(parameter.replace(default=Parameter.empty, annotation=Parameter.empty))
            for parameter in self._parameters
        )
        self.title = f"{getattr(function, '__name__', 'function')}({', '.join(bare)})"

    def __len__(self) -> int:
        return len(self._parameters)

    def of_call(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Arguments:
        """The arguments of a call by name, however they were passed.

        Raises:
            TypeError: the function cannot be called like this.
            KeyNotHashable: two arguments have one name, which ``/`` and ``**kwargs`` allow.
        """
        if not kwargs and self._plain and len(args) == len(self._plain):  # as bind() would say
            return dict(zip(self._plain[self._bound :], args[self._bound :], strict=True))
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.title}: {error}. Nothing was run.") from None
        arguments = {**self._defaults, **bound.arguments}
        if self._bound:
            arguments.pop("self", None)
        for stars in self._stars:
            arguments.pop(stars, None)
            entries = bound.arguments.get(stars, {})
            if twice := entries.keys() & {parameter.name for parameter in self._parameters}:
                raise KeyNotHashable(
                    f"{self._named(min(twice))} is also an entry of **{stars}, so the name says "
                    f"too little, and nothing was run; rename a parameter of {self.title}."
                )
            arguments |= entries
        return arguments

    def changed(self, arguments: Arguments, *, apart_from: Container[str] = ()) -> dict[str, bytes]:
        """The encodings of the arguments that differ from their default.

        So a new optional parameter changes no key and no fingerprint.

        Raises:
            KeyNotHashable: an argument has no canonical form.
        """
        encodings = {}
        for name, value in arguments.items():
            if name in apart_from or value is self._defaults.get(name, _ABSENT):
                continue
            encoded = canonical(value, name=self._named(name))
            if encoded != self._encoded_defaults.get(name):
                encodings[name] = encoded
        return encodings

    def path(self, text: str) -> ArgumentPath:
        """Read a path; a TypeError says why it can lead nowhere."""
        first, *below = text.split(".")
        here = f"{self.title}: path {text!r}"
        if not first or not all(below):
            raise TypeError(f"{here} has an empty part; write 'order_id' or 'event.detail.id'.")
        if self._bound and first == "self":
            raise TypeError(f"{here}: 'self' is the task object, which is never part of a key.")
        if first in self._stars:
            raise TypeError(f"{here}: name an entry of **{first} directly, without '{first}.'.")
        names = [parameter.name for parameter in self._parameters]
        if first not in names and not self._stars:
            close = difflib.get_close_matches(first, names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"{self.title} has no parameter {first!r}.{hint}")
        return ArgumentPath(self._named(first), (first, *below))

    def passed_to(self, function: Callable[..., object]) -> Callable[[Arguments], object]:
        """A way to call ``function`` with the arguments of a call, whatever form that call had.

        By name where it knows the names, else by position. A TypeError says that it can do neither.
        """
        only = self._names(Parameter.POSITIONAL_ONLY)
        all_positional = only + self._names(Parameter.POSITIONAL_OR_KEYWORD)
        sample: Arguments = {parameter.name: None for parameter in self._parameters}
        sample |= dict.fromkeys(self._star, (None,))
        reasons = []
        for positional in (all_positional if self._star else only, all_positional):
            args, kwargs = self._split(positional, sample)
            try:
                inspect.signature(function).bind(*args, **kwargs)
            except (TypeError, ValueError) as error:  # ValueError: a builtin without a signature
                reasons.append(str(error))
            else:
                return partial(self._call, function, positional)
        name = getattr(function, "__qualname__", type(function).__qualname__)
        raise TypeError(
            f"{name} cannot take the arguments of {self.title}: {reasons[0]}. Give it the same "
            "parameters (without 'self')."
        )

    def _call(
        self, function: Callable[..., object], positional: list[str], arguments: Arguments
    ) -> object:
        args, kwargs = self._split(positional, arguments)
        return function(*args, **kwargs)

    def _split(
        self, positional: list[str], arguments: Arguments
    ) -> tuple[list[object], dict[str, object]]:
        rest: dict[str, Any] = dict(arguments)
        args = [rest.pop(name) for name in positional]
        for star in self._star:
            args += rest.pop(star, ())
        return args, rest

    def _names(self, kind: object) -> list[str]:
        return [parameter.name for parameter in self._parameters if parameter.kind == kind]

    def _named(self, argument: str) -> str:
        return f"{self._scope}: argument {argument!r}"


def _below(inside: object, step: str) -> object:
    if isinstance(inside, Mapping):
        if step in inside:
            return inside[step]
        # Before the broker the key may still be a number; the worker sees its text.
        return next((inside[key] for key in inside if json_name(key) == step), _ABSENT)
    if isinstance(inside, list | tuple) and step.isdecimal():
        return inside[int(step)] if int(step) < len(inside) else _ABSENT
    return getattr(inside, step, _ABSENT)


def _names_in(inside: object) -> str:
    """Which names there are instead. Never a value: it may be a secret."""
    if not isinstance(inside, Mapping):
        return f", type: {type(inside).__qualname__}"
    names = [name for key in inside if (name := json_name(key)) is not None]
    text = ", ".join(name if name.isidentifier() else json.dumps(name) for name in names[:20])
    return f", keys: {text[:200]}{'…' if len(names) > 20 or len(text) > 200 else ''}"


def _encodings(values: Arguments) -> dict[str, bytes]:
    encodings = {}
    for name, value in values.items():
        with suppress(KeyNotHashable):  # only the default itself can equal it
            encodings[name] = canonical(value)
    return encodings
