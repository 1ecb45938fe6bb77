"""Under django-unfold the admin finds, tells and settles as it does under Django's own."""

import re

import pytest
from django.contrib import admin
from django.urls import reverse

from idempotency.models import IdempotencyRecord
from tests.admin.conftest import as_user, said
from tests.admin.pages import page, shown
from tests.admin.records import made, night
from tests.admin.unfold import unfolded as unfolded
from tests.docs.blocks import ROOT

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("unfolded"),
    # Unfold's own, of 0.110 on Django 6.1.
    pytest.mark.filterwarnings("ignore:Overriding get_action_choices"),
]
ALL = ("view", "resolve", "release", "allow_again", "purge")


def test_the_list_begins_with_what_needs_attention_and_has_our_actions():
    night()
    text = page(as_user(*ALL).client, "idempotencyrecord_changelist")
    assert "material-symbols" in text, "it is Unfold's page"
    assert "1 in doubt" in " ".join(text.split())
    assert f'href="{reverse("admin:idempotency_dashboard")}"' in text
    for name in ("it_happened", "it_did_not_happen", "release", "export_csv", "export_json"):
        assert f'value="{name}"' in text


def test_the_page_of_a_record_tells_its_story_and_has_our_buttons():
    text = shown(as_user(*ALL).client, night())
    assert "material-symbols" in text
    assert "What happened" in text
    assert "/settle/it_happened/" in text


def test_who_may_only_look_is_shown_no_way_to_settle():
    somebody = as_user("view")
    assert "/settle/" not in shown(somebody.client, night())
    assert 'value="it_happened"' not in page(somebody.client, "idempotencyrecord_changelist")


@pytest.mark.parametrize("way", ["press", "choose"])
def test_a_doubt_is_resolved(way):
    operator, record = as_user(*ALL), made("in_doubt")
    asked = getattr(operator, way)("it_happened", record)
    assert "The doubt ends" in asked.content.decode()
    assert said(operator.confirm(asked, result='"ch_1"')) == ["It happened: 1 record."]
    assert IdempotencyRecord.objects.get().result == '"ch_1"'


def test_what_is_forgotten_is_searched_and_exported():
    operator, record = as_user(*ALL), made()
    found = page(operator.client, "idempotencyrecord_changelist", q=record.key_hash.hex)
    assert record.key_hash.hex[:8] in found
    assert operator.choose("export_json", record).getvalue().startswith(b"[\n{")


def test_what_the_docs_tell_a_project_to_write_works():
    page_of_the_docs = (ROOT / "docs/how-to/use-the-admin.md").read_text()
    _, code = re.findall(r"^```py\n(.*?)^```", page_of_the_docs, re.MULTILINE | re.DOTALL)
    before = dict(admin.site._registry)
    try:
        exec(compile(code, "admin.py", "exec"), {"__name__": "shop.admin"})  # noqa: S102 its purpose
        for model in (model for model in before if model._meta.app_label == "idempotency"):
            assert type(admin.site._registry[model]).__module__ == "shop.admin"
            assert admin.site._registry[model].check() == []
    finally:
        admin.site._registry.clear()
        admin.site._registry.update(before)
