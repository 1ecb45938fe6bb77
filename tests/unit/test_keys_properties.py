"""Properties of keys: what is equal is one key, what is not is two, whatever path it took."""

import inspect
import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from idempotency.exceptions import KeyMissing
from idempotency.keys import ALL_ARGUMENTS, Keying, canonical, digest
from tests.unit.values import near, nested, plain, tagged, through_kombu

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KINDS = [
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
]
few = settings(max_examples=150, deadline=None)
values = nested(st.one_of(near, plain, tagged, st.timedeltas()))


def meaning(value):
    """What a value means: an independent notion of which values are equal."""
    match value:
        case bool() | None:
            return repr(value)
        case list() | tuple():
            return ("list", tuple(map(meaning, value)))
        case dict():
            names = [json.dumps({name: 0}) for name in value]
            return ("dict", frozenset(zip(names, map(meaning, value.values()), strict=True)))
        case datetime() if value.utcoffset() is not None:
            return ("instant", value.replace(tzinfo=UTC, fold=0) - EPOCH - value.utcoffset())
        case datetime() | date() | time():
            return (type(value), value.isoformat())
        case _:
            return (type(value), value)


@few
@given(st.one_of(st.tuples(near, near), st.tuples(values, values), st.tuples(*[nested(near)] * 2)))
def test_two_values_are_one_key_exactly_when_they_mean_the_same(pair):
    one, other = pair
    assert (canonical(one) == canonical(other)) == (meaning(one) == meaning(other))


@few
@given(
    nested(st.one_of(near.filter(lambda value: not isinstance(value, timedelta)), plain, tagged))
)
def test_the_broker_changes_no_key(value):
    assert canonical(through_kombu(value)) == canonical(value)
    assert digest([value], scope="s") == digest([through_kombu(value)], scope="s")


# The part of JSON on which RFC 8785 and we must agree: no floats, no large integers.
plain_json = nested(
    st.one_of(
        st.none(), st.booleans(), st.integers(-3, 3), st.integers(-(2**53) + 1, 2**53 - 1),
        st.text(max_size=3), st.sampled_from(["1", "true", "null", ""]),
    ),
    names=st.text(max_size=2),
)  # fmt: skip


@few
@given(st.one_of(st.tuples(plain_json, plain_json), plain_json.map(lambda value: (value, value))))
def test_plain_json_is_one_key_exactly_when_rfc_8785_says_so(pair):
    one, other = pair
    if isinstance(other, dict):
        other = dict(reversed(other.items()))
    assert (canonical(one) == canonical(other)) == (rfc8785.dumps(one) == rfc8785.dumps(other))


@few
@given(st.decimals(allow_nan=False, allow_infinity=False), st.integers(-3, 3))
def test_a_decimal_is_its_number_in_any_notation(number, zeros):
    sign, digits, exponent = number.as_tuple()
    other = Decimal((sign, (*digits, *[0] * abs(zeros)), exponent - abs(zeros)))
    assert canonical(other) == canonical(number)
    assert canonical(Decimal((sign, (*digits, 1), exponent - 1))) != canonical(number)


class Call:
    """A function with a drawn signature, and the values for one call of it."""

    def __init__(self, parameters, values):
        self.parameters = parameters
        self.values = values

    @property
    def function(self):
        def job(*args, **kwargs):
            raise AssertionError("making a key does not call the function")

        job.__signature__ = inspect.Signature(self.parameters)
        return job

    def with_optional(self, kind, default):
        """The same call of the same function after a deploy that adds an optional parameter."""
        added = inspect.Parameter("added", kind, default=default)
        return Call(sorted([*self.parameters, added], key=lambda each: each.kind), self.values)

    def form(self, draw):
        """One of the ways to write the call: by position or name, defaults written or not."""
        args, kwargs, by_name = [], {}, False
        for parameter in self.parameters:
            value = self.values.get(parameter.name, parameter.default)
            must_name = by_name or parameter.kind == parameter.KEYWORD_ONLY
            default = meaning(value) == meaning(parameter.default)
            if parameter.kind == parameter.POSITIONAL_ONLY:
                args.append(value)
            elif default and draw(st.booleans()):
                by_name = True
            elif must_name or draw(st.booleans()):
                kwargs[parameter.name] = value
                by_name = True
            else:
                args.append(value)
        return tuple(args), dict(draw(st.permutations(list(kwargs.items()))))


@st.composite
def calls(draw):
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1, max_size=5))
    kinds = sorted(draw(st.lists(st.sampled_from(KINDS), min_size=5, max_size=5)))
    parameters, optional = [], False
    for name, kind in zip(names, kinds, strict=False):
        optional = draw(st.booleans()) or (optional and kind != inspect.Parameter.KEYWORD_ONLY)
        default = draw(near) if optional else inspect.Parameter.empty
        parameters.append(inspect.Parameter(name, kind, default=default))
    given_names = [
        parameter.name
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty or draw(st.booleans())
    ]
    return Call(parameters, {name: draw(st.one_of(near, values)) for name in given_names})


@st.composite
def keys(draw, call):
    names = [parameter.name for parameter in call.parameters]
    named = [each.name for each in call.parameters if each.kind != each.POSITIONAL_ONLY]
    choices = [
        st.just(ALL_ARGUMENTS),
        st.sampled_from(names),
        st.lists(st.sampled_from(names), min_size=1, max_size=3).map(tuple),
    ]
    if names == named:
        choices.append(st.sampled_from(names).map(lambda name: lambda **call: [call[name]]))
    return draw(st.one_of(choices))


def key_or_missing(call, key, form):
    try:
        return Keying(call.function, key=key, scope="s").key_for(*form)
    except KeyMissing:
        return KeyMissing


@few
@given(st.data())
def test_the_form_of_a_call_changes_no_key_and_no_fingerprint(data):
    call = data.draw(calls())
    key = data.draw(keys(call))
    one, other = call.form(data.draw), call.form(data.draw)
    assert key_or_missing(call, key, one) == key_or_missing(call, key, other)


@few
@given(st.data(), st.sampled_from(KINDS[1:]), st.one_of(near, st.builds(object)))
def test_a_new_optional_parameter_changes_no_key_and_no_fingerprint(data, kind, default):
    call = data.draw(calls())
    key = data.draw(keys(call))
    form = call.form(data.draw)
    later = call.with_optional(kind, default)
    assert key_or_missing(later, key, form) == key_or_missing(call, key, form)
    written = (form[0], {**form[1], "added": default})
    assert key_or_missing(later, key, written) == key_or_missing(call, key, form)


@few
@given(st.data())
def test_with_all_arguments_another_value_is_another_key(data):
    call = data.draw(calls())
    name = data.draw(st.sampled_from([parameter.name for parameter in call.parameters]))
    other = Call(call.parameters, {**call.values, name: data.draw(st.one_of(near, values))})
    one = key_or_missing(call, ALL_ARGUMENTS, call.form(data.draw))
    two = key_or_missing(other, ALL_ARGUMENTS, other.form(data.draw))
    defaults = {parameter.name: parameter.default for parameter in call.parameters}
    was, now = ({**defaults, **each.values}[name] for each in (call, other))
    assert (one == two) == (meaning(was) == meaning(now))
