"""What is refused at a call because of its key."""

import dataclasses
import io

from django.contrib.auth.models import Group
from django.test import RequestFactory

from idempotency import ALL_ARGUMENTS, TASK_ID
from idempotency.exceptions import KeyMissing, KeyNotHashable
from tests.bad_inputs.at_import import clash
from tests.bad_inputs.case import Moment, Refused, called, declared, executed
from tests.execution.bodies import effect


@dataclasses.dataclass
class Basket:
    articles: int = 2


inside_itself: list[object] = []
inside_itself.append(inside_itself)


KEY = Moment(
    title="At the call: its key",
    text="There is no key, or none that would be the same in another process. "
    "Nothing ran, and no record is left.",
    cases=(
        Refused(
            given="an argument in the key that is None",
            act=called(None),
            error=KeyMissing,
            says=(
                "billing.charge: argument 'order_id' is None, so nothing tells this effect from"
                " the next, and nothing was run. Pass a value that names the effect."
            ),
        ),
        Refused(
            given="an empty part of a key of two",
            act=called(7, "", key=("order_id", "amount")),
            error=KeyMissing,
            says=(
                "billing.charge: argument 'amount' is empty (str), so nothing tells this effect"
                " from the next, and nothing was run. Pass a value that names the effect."
            ),
        ),
        Refused(
            given="a callable that returns None",
            act=called(7, key=lambda order_id, **more: None),
            error=KeyMissing,
            says=(
                "billing.charge: key (as the callable returned it) is None, so nothing tells "
                "this effect from the next, and nothing was run. Pass a value that names the "
                "effect."
            ),
        ),
        Refused(
            given="a path that ends before its end",
            act=called({"type": "paid", "data": {"token": "hunter2"}}, key="order_id.data.id"),
            error=KeyMissing,
            says=(
                "billing.charge: argument 'order_id' at .data has no 'id' (path "
                "'order_id.data.id', keys: token). Nothing was run. Pass it, or choose another "
                "path."
            ),
        ),
        Refused(
            given="by position what `**kwargs` takes by name",
            act=called(7, function=lambda *args, **kwargs: effect()),
            error=KeyMissing,
            says=(
                "billing.charge: argument 'order_id' is not in this call by name (path "
                "'order_id', keys: args). Nothing was run. Pass it, or choose another path."
            ),
        ),
        Refused(
            given="`TASK_ID` outside of a task",
            act=called(7, key=TASK_ID),
            error=KeyMissing,
            says=(
                "billing.charge: key=TASK_ID works only as the body of a task that is being "
                "delivered, and here there is no message. Use another key."
            ),
        ),
        Refused(
            given="`execute(key=None)`",
            act=executed(key=None),
            error=KeyMissing,
            says=(
                "billing.charge: key is None, so nothing tells this effect from the next, and "
                "nothing was run. Pass a value that names the effect."
            ),
        ),
        Refused(
            given="a model instance",
            act=called(Group(name="hunter2")),
            error=KeyNotHashable,
            says=(
                "billing.charge: argument 'order_id' of type Group cannot be part of a key or "
                "fingerprint; use group.pk. Nothing was run."
            ),
        ),
        Refused(
            given="a set",
            act=called({"hunter2"}),
            error=KeyNotHashable,
            says=(
                "billing.charge: argument 'order_id' of type set cannot be part of a key or "
                "fingerprint; convert it to a sorted list. Nothing was run."
            ),
        ),
        Refused(
            given="a dataclass, in an argument that is only compared",
            act=called(7, {"basket": Basket()}),
            error=KeyNotHashable,
            says=(
                "billing.charge: argument 'amount' at .basket of type Basket cannot be part of "
                "a key or fingerprint; use dataclasses.asdict(). Nothing was run."
            ),
        ),
        Refused(
            given="a file",
            act=called(io.BytesIO(b"hunter2")),
            error=KeyNotHashable,
            says=(
                "billing.charge: argument 'order_id' of type BytesIO cannot be part of a key or"
                " fingerprint; use the file's name. Nothing was run."
            ),
        ),
        Refused(
            given="a request",
            act=called(RequestFactory().get("/?token=hunter2"), key=ALL_ARGUMENTS),
            error=KeyNotHashable,
            says=(
                "billing.charge: argument 'order_id' of type WSGIRequest cannot be part of a "
                "key or fingerprint; pass the values that you need of it. Nothing was run."
            ),
        ),
        Refused(
            given="an object whose `repr()` has an address",
            act=called(object()),
            error=KeyNotHashable,
            says=(
                "billing.charge: argument 'order_id' of type object cannot be part of a key or "
                "fingerprint; use text, numbers, dates, lists and mappings. Nothing was run."
            ),
        ),
        Refused(
            given="NaN",
            act=called(7, float("nan")),
            error=KeyNotHashable,
            says=(
                "billing.charge: argument 'amount' is NaN or infinite; a key needs finite "
                "numbers. Nothing was run."
            ),
        ),
        Refused(
            given="half of a surrogate pair",
            act=called("abc\ud800"),
            error=KeyNotHashable,
            says=(
                "billing.charge: argument 'order_id' is not valid Unicode (lone surrogate at "
                "position 3). Nothing was run."
            ),
            do="Clean the text where it comes in.",
        ),
        Refused(
            given='a dict with the keys `1` and `"1"`',
            act=called(7, {1: "a", "1": "b"}),
            error=KeyNotHashable,
            says=(
                "billing.charge: argument 'amount' at [\"1\"] is there twice: two keys of the "
                "mapping are the same in JSON. Nothing was run."
            ),
            do="Use one of the two.",
        ),
        Refused(
            given="a list inside itself",
            act=called(inside_itself),
            error=KeyNotHashable,
            says=(
                "billing.charge: argument 'order_id' at [0][0]… is nested deeper than 100 "
                "levels, or contains itself. Nothing was run."
            ),
            do="Pass something flat.",
        ),
        Refused(
            given="a parameter's name in `**kwargs` too",
            act=lambda: declared(clash, key="a")(7, a=8),
            error=KeyNotHashable,
            says=(
                "billing.charge: argument 'a' is also an entry of **more, so the name says too "
                "little, and nothing was run; rename a parameter of clash(a, **more)."
            ),
        ),
    ),
)
