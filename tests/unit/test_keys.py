"""How a call becomes a key, and what the decorator refuses at import."""

import enum
from types import SimpleNamespace

import pytest

from idempotency.exceptions import KeyMissing, KeyNotHashable
from idempotency.keys import ALL_ARGUMENTS, TASK_ID, Keying

GOLDEN_CALL = ["8d63106e-85c2-3733-ffd5-ee90c5930c82", "d9da9f7d-e288-1874-8cfd-331d432c780f"]


class Kind(enum.StrEnum):
    MAIL = "mail"


def send(order_id, user_id, kind="mail"):
    pass


def key_of(function, *args, key="order_id", message=None, **kwargs):
    return Keying(function, key=key).key_for(args, kwargs, message=message)


class TestKeysOfCalls:
    def test_a_change_of_how_calls_become_keys_is_seen(self):
        keying = Keying(send, key=("order_id", "user_id"), scope="golden")
        key = keying.key_for((7, "x"), {"kind": "sms"})
        assert [str(part) for part in key.digests[0]] == GOLDEN_CALL

    @pytest.mark.parametrize("key", ["order_id", ("order_id", "kind"), ALL_ARGUMENTS])
    def test_one_call_in_any_form_has_one_key(self, key):
        forms = [
            key_of(send, 1, 2, key=key),
            key_of(send, 1, user_id=2, key=key),
            key_of(send, user_id=2, order_id=1, key=key),
            key_of(send, 1, 2, "mail", key=key),
            key_of(send, 1, 2, kind=Kind.MAIL, key=key),
        ]
        assert all(form == forms[0] for form in forms)
        assert forms[0].digests != key_of(send, 9, 2, key=key).digests

    def test_a_path_goes_through_mappings_lists_and_attributes(self):
        event = {"detail": SimpleNamespace(items=[{"id": 7}]), "3": {"items": 8}}
        assert key_of(send, event, 0, key="order_id.detail.items.0.id").readable == "7"
        assert key_of(send, event, 0, key="order_id.3.items").readable == "8"

    def test_a_path_finds_a_number_that_is_text_after_the_broker(self):
        for event in ({3: "x"}, {"3": "x"}):
            assert key_of(send, event, 0, key="order_id.3").readable == '"x"'

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("order_id.id", r"send: argument 'order_id' has no 'id' "
                            r"\(path 'order_id.id', keys: data, \"b c\", \"1\"\)."),
            ("order_id.data.id.x", r"argument 'order_id' at .data has no 'id' "
                                   r"\(path 'order_id.data.id.x', type: list\)."),
            ("order_id.data.1", "at .data has no '1'"),
            ("order_id.items", "argument 'order_id' has no 'items'"),
        ],
    )  # fmt: skip
    def test_a_path_that_leads_nowhere_names_what_is_there(self, path, message):
        with pytest.raises(KeyMissing, match=message) as missing:
            key_of(send, {"data": ["secret"], "b c": 2, 1: 3}, 2, key=path)
        assert "secret" not in str(missing.value)

    def test_an_empty_key_is_missing_and_its_path_is_named(self):
        with pytest.raises(KeyMissing, match=r"send: argument 'order_id' is None, so nothing"):
            key_of(send, None, 2)
        with pytest.raises(KeyMissing, match=r"argument 'order_id' at .id is empty \(str\)"):
            key_of(send, {"id": ""}, 2, key="order_id.id")
        with pytest.raises(KeyMissing, match=r"argument 'user_id' is None"):
            key_of(send, 1, None, key=("order_id", "user_id"))
        with pytest.raises(KeyMissing, match=r"key \(as the callable returned it\), part 2, is N"):
            key_of(send, 1, None, key=lambda order_id, user_id, kind: (order_id, user_id))

    def test_a_refused_argument_is_named_with_its_place(self):
        for key in ("order_id.a", ("user_id", "order_id.a")):
            with pytest.raises(
                KeyNotHashable, match=r"send: argument 'order_id' at .a\[0\] of typ"
            ):
                key_of(send, {"a": [{1}]}, 2, key=key)
        for key in (ALL_ARGUMENTS, "user_id"):
            with pytest.raises(
                KeyNotHashable, match=r"send: argument 'order_id' at .a\[0\] of typ"
            ):
                key_of(send, {"a": [{1}]}, 2, key=key)

    def test_a_call_that_does_not_fit_is_an_ordinary_type_error(self):
        with pytest.raises(TypeError, match="missing a required argument: 'user_id'"):
            key_of(send, 1)
        with pytest.raises(TypeError, match="unexpected keyword argument 'knd'"):
            key_of(send, 1, 2, knd=3)
        with pytest.raises(TypeError, match="unexpected keyword argument 'knd'"):
            key_of(send, 1, 2, "sms", knd=3)

    def test_the_task_object_is_no_part_of_a_key(self):
        def bound(self, order_id):
            pass

        for key in ("order_id", ALL_ARGUMENTS, lambda order_id: order_id):
            keying = Keying(bound, key=key, scope="s")
            assert keying.key_for((object(), 1), {}) == keying.key_for((object(),), {"order_id": 1})
        with pytest.raises(TypeError, match="'self' is the task object, which is never part of a"):
            Keying(bound, key="self.request.id", scope="s")

    def test_a_callable_takes_the_arguments_by_name_or_by_position(self):
        by_name = key_of(send, 1, 2, key=lambda kind, order_id, **_: [order_id, kind])
        by_position = key_of(send, 1, user_id=2, key=lambda a, b, c: [a, c])
        as_paths = key_of(send, 1, 2, key=("order_id", "kind"))
        assert by_name.hashes == by_position.hashes == as_paths.hashes

    def test_entries_of_kwargs_are_arguments_of_their_own(self):
        def open_ended(*numbers, **options):
            pass

        def key(*numbers, **options):
            return [*numbers, options["name"]]

        def of(*args, key, **kwargs):
            return Keying(open_ended, key=key, scope="s").key_for(args, kwargs)

        assert of(name="x", key="name").readable == '"x"'
        assert of(1, 2, name="x", key=ALL_ARGUMENTS).readable == '{"numbers": [1, 2], "name": "x"}'
        assert of(name="x", key=ALL_ARGUMENTS).readable == '{"name": "x"}'
        assert of(1, name="x", key=key).readable == '[1, "x"]'
        with pytest.raises(
            KeyMissing, match=r"s: argument 'name' is not in this call .*keys: numb"
        ):
            of(1, other=3, key="name")
        with pytest.raises(KeyNotHashable, match=r"'numbers' is also an entry of \*\*options"):
            of(numbers=[1], key=ALL_ARGUMENTS)
        with pytest.raises(TypeError, match=r"name an entry of \*\*options directly"):
            of(key="options.name")

    def test_all_arguments_leave_out_what_equals_its_default(self):
        marker = object()

        def job(a, b=1, c=marker, d=()):
            pass

        keying = Keying(job, key=ALL_ARGUMENTS, scope="s")
        assert keying.key_for((1,), {}) == keying.key_for((1, 1, marker, []), {})
        assert keying.key_for((1,), {}) != keying.key_for((1, True), {})
        assert keying.key_for((1,), {}) != keying.key_for((1, 1.0), {})

    def test_all_arguments_need_one_that_is_not_its_default(self):
        def job(day=None):
            pass

        with pytest.raises(KeyMissing, match="s: ALL_ARGUMENTS less the defaults is empty"):
            Keying(job, key=ALL_ARGUMENTS, scope="s").key_for((), {})
        with pytest.raises(TypeError, match=r"nothing\(\) has no arguments, so ALL_ARGUMENTS"):
            Keying(nothing, key=ALL_ARGUMENTS)

    def test_the_task_id_is_the_message(self):
        keying = Keying(send, key=TASK_ID)
        assert keying.uses_task_id
        assert not Keying(send, key="order_id").uses_task_id
        first = keying.key_for((1, 2), {}, message=("id", 0))
        assert first.readable == '["id", 0]'
        assert first == keying.key_for((3, 4), {}, message=("id", 0))
        assert first.hashes != keying.key_for((1, 2), {}, message=("id", 1)).hashes
        assert first.hashes != keying.key_for((1, 2), {}, message=("other", 0)).hashes
        with pytest.raises(KeyMissing, match="TASK_ID works only as the body of a task that is be"):
            keying.key_for((1, 2), {})
        with pytest.raises(KeyMissing, match="TASK_ID, part 1, is None"):
            keying.key_for((1, 2), {}, message=(None, 0))


def nothing():
    pass


class TestFingerprints:
    def prints(self, *calls, key="order_id", **options):
        keying = Keying(send, key=key, **options)
        return {keying.key_for(args, {}).digests[0].fingerprint for args in calls}

    def test_by_default_what_no_path_enters_is_compared(self):
        assert len(self.prints((1, 2), (1, 3), (1, 2, "sms"))) == 3
        assert len(self.prints((1, 2), (1, 2, "mail"))) == 1
        inside = ({"id": 1, "x": 1}, 2), ({"id": 1, "x": 2}, 2)
        assert len(self.prints(*inside, key="order_id.id")) == 1
        assert len(self.prints((1, 2), (1, 2, "sms"), key=("order_id", "user_id"))) == 2

    def test_only_the_key_is_compared_where_it_is_a_callable_or_everything(self):
        keys = (lambda order_id, user_id, kind: order_id, ALL_ARGUMENTS)
        for key in keys:
            assert None not in self.prints((1, 2), key=key)
            assert len(self.prints((1, 2), (2, 2), key=key)) == 2
        assert len(self.prints((1, 2), (1, 3), key=keys[0])) == 1

    def test_the_fingerprint_can_be_chosen(self):
        calls = (1, 2, "a"), (1, 3, "a"), (1, 3, None)
        assert len(self.prints(*calls, fingerprint="user_id")) == 2
        assert len(self.prints(*calls, fingerprint="kind")) == 2
        assert len(self.prints(*calls, fingerprint=("user_id", "kind"))) == 3
        assert len(self.prints(*calls, fingerprint=ALL_ARGUMENTS)) == 3
        assert len(self.prints(*calls, fingerprint=lambda order_id, **_: order_id)) == 1
        assert self.prints(*calls, fingerprint=None) == {None}

    def test_the_task_id_is_no_fingerprint(self):
        with pytest.raises(TypeError, match=r"fingerprint= cannot be TASK_ID.* or None\."):
            Keying(send, key="order_id", fingerprint=TASK_ID)


class TestMisuseAtImport:
    @pytest.mark.parametrize(
        ("key", "message"),
        [
            (None, r"send\(order_id, user_id, kind\): key= cannot be None. Say what makes two "
                   r"deliveries the same effect: a path .* a tuple of paths .* a callable that "
                   r"takes the same arguments, ALL_ARGUMENTS or TASK_ID."),
            (["order_id"], "key= cannot be list"),
            ((), "key= cannot be tuple"),
            (("order_id", 1), "key= cannot be tuple"),
            (7, "key= cannot be int"),
            ("order", r"send\(order_id, user_id, kind\) has no parameter 'order'. "
                      r"Did you mean 'order_id'\?"),
            ("order.id", "has no parameter 'order'. Did you mean 'order_id'"),
            (("user_id", "zzz"), "has no parameter 'zzz'.$"),
            ("", "path '' has an empty part"),
            ("order_id.", "path 'order_id.' has an empty part; write 'order_id' or"),
            (".id", "has an empty part"),
            (lambda a: a, r"<lambda> cannot take the arguments of send\(order_id, user_id, kind\)"
                          r".*Give it the same parameters \(without 'self'\)."),
            (lambda order_id, user_id, kind, more: more, "missing a required argument: 'more'"),
        ],
    )  # fmt: skip
    def test_a_key_that_does_not_fit_the_function_is_refused_with_the_remedy(self, key, message):
        with pytest.raises(TypeError, match=message):
            Keying(send, key=key)

    def test_the_scope_is_the_name_of_the_function(self):
        assert Keying(send, key="order_id").scope == f"{__name__}.send"
        assert Keying(send, key="order_id", scope="orders.send").scope == "orders.send"

    def test_a_function_without_a_lasting_name_needs_a_scope(self):
        def local(order_id):
            pass

        script = type(send)(send.__code__, {"__name__": "__main__"}, "send")
        for function in (local, script):
            with pytest.raises(TypeError, match=r'is not a lasting name .* Give scope="\.\.\."'):
                Keying(function, key="order_id")
            assert Keying(function, key="order_id", scope="s").scope == "s"

    def test_the_choices_print_as_they_are_written(self):
        assert (repr(ALL_ARGUMENTS), repr(TASK_ID)) == ("ALL_ARGUMENTS", "TASK_ID")
