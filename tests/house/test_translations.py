"""The catalogs say all that the sources say, in each language, and Django reads what people edit.

The remedy for most: ``python -m tests.translations``, then fill in what it says is missing.
"""

import re
from collections import Counter

import pytest

from tests import translations

LOCALES = pytest.mark.parametrize("locale", translations.LOCALES)
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|\{\w*\}")


def forms(text):
    return text if isinstance(text, tuple | list) else (text,)


@LOCALES
def test_the_catalog_has_what_the_sources_have_and_django_reads_what_is_in_it(locale):
    remedy = "The sources have changed: python -m tests.translations"
    made, directory = translations.catalog(locale), translations.directory(locale)
    assert translations.po(made) == (directory / "django.po").read_bytes(), remedy
    assert translations.mo(made) == (directory / "django.mo").read_bytes(), remedy


@LOCALES
def test_each_string_is_translated_in_every_form(locale):
    made = translations.catalog(locale)
    assert len(made) > 200
    lacking = [
        message.id for message in made if message.id and not translations.translated(message)
    ]
    assert lacking == []


@LOCALES
def test_a_translation_has_the_placeholders_of_what_it_translates(locale):
    for message in translations.catalog(locale):
        for text, form in zip(forms(message.id), forms(message.string), strict=False):
            wanted = Counter(PLACEHOLDER.findall(text))
            assert Counter(PLACEHOLDER.findall(form)) == wanted, (message.id, form)


@LOCALES
def test_a_translation_begins_and_ends_like_what_it_translates(locale):
    """A full stop that is lost runs two sentences into one."""
    for message in translations.catalog(locale):
        for text, form in zip(forms(message.id), forms(message.string), strict=False):
            if text:
                assert form.endswith(".") == text.endswith("."), (text, form)
                assert form == form.strip()


def test_what_is_read_by_programs_is_not_translated():
    """A command is read by scripts; its own file must not ask for a translation."""
    for name in translations.ENGLISH:
        for path in (translations.APP / name).rglob("*.py"):
            assert not re.search(r"import gettext|\bngettext\(|\b_\(", path.read_text()), path
