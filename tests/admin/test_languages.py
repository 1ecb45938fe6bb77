"""An operator reads the admin in their language; what is written down is read by all."""

import re
from datetime import timedelta
from html.parser import HTMLParser
from io import StringIO

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.utils.translation import override, trans_real

from idempotency import jobs
from idempotency.models import IdempotencyEvent, IdempotencyRecord
from tests import translations
from tests.admin.conftest import said
from tests.admin.pages import page, shown
from tests.admin.records import ago, event, made, night, parked

pytestmark = pytest.mark.django_db(transaction=True)
LOCALES = pytest.mark.parametrize("locale", translations.LOCALES)

#: What is the same in every language: data of the records, units, and Django's own icons.
DATA = {
    *("shop", "ship", "notifications", "tasks", "send", "message", "billing", "charge", "order"),
    *("id", "worker", "hold", "builtins", "ZeroDivisionError"),
    *("smtplib", "SMTPServerDisconnected", "ConnectionRefusedError", "It", "was", "failed"),
    *("Connection", "unexpectedly", "closed", "the", "read", "operation", "timed", "out"),
    *("division", "by", "zero", "UTC", "min", "Search", "True", "False"),
    *("ada", "admin", "task", "idempotency"),
}


class Words(HTMLParser):
    """What a page says to people."""

    def __init__(self, text):
        super().__init__()
        self.said, self.inside = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in ("script", "style"):
            self.inside.append(tag)
        is_button = given.get("type") in ("submit", "button")
        names = ("title", "alt", "aria-label", "placeholder", "data-copy", "data-copied")
        self.said += [given[name] for name in names if given.get(name)]
        self.said += [given["value"]] if is_button and given.get("value") else []

    def handle_endtag(self, tag):
        if self.inside and tag == self.inside[-1]:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside and data.strip():
            self.said.append(" ".join(data.split()))


def pages(operator):
    """The list, what it leads to, and each page that asks."""
    client = operator.client
    doubt = night()
    event(doubt, "lease_lost", duration=None)
    records = [
        doubt,
        made("running"),
        made("failed", exhausted_at=ago(minutes=1), deaths=3),
        made(result="1", expires_at=ago(days=1)),
    ]
    for model in ("idempotencyrecord", "idempotencyevent", "parkedmessage"):
        yield page(client, f"{model}_changelist")
    for record in records:
        yield shown(client, record)
    yield page(client, "idempotencyevent_change", IdempotencyEvent.objects.latest("pk").pk)
    yield page(client, "parkedmessage_change", parked(doubt).pk)
    for name, record in zip(
        ("it_happened", "release", "allow_again", "purge"), records, strict=True
    ):
        yield operator.choose(name, record, records[3]).content.decode()
    asked = operator.choose("it_did_not_happen", doubt)
    yield operator.confirm(asked, reason="").content.decode()
    yield operator.confirm(asked, reason="5").content.decode()
    yield operator.confirm(asked, reason="5").content.decode()


@pytest.fixture
def reader(operator):
    """Somebody who sees all of our pages."""
    lists = ("view_idempotencyevent", "view_parkedmessage")
    ada = User.objects.get(username="ada")
    ada.user_permissions.add(*Permission.objects.filter(codename__in=lists))
    return operator


@LOCALES
def test_no_sentence_of_ours_is_left_in_english(reader, settings, locale):
    english = {
        form
        for message in translations.catalog(locale)
        for form in (message.id if isinstance(message.id, tuple) else (message.id,))
        if "%" not in form and " " in form and form not in str(message.string)
    }
    settings.LANGUAGE_CODE = locale
    told = list(pages(reader))
    for text in told:
        words = " | ".join(Words(text).said)
        assert [sentence for sentence in english if sentence in words] == []
    with override(locale):
        assert str(IdempotencyRecord(state="in_doubt").get_state_display()) in told[0]


def test_every_word_of_ours_can_be_translated(reader, settings, monkeypatch):
    """What went through a catalog is dots; what is left was never asked for a translation."""
    literal = re.compile(r"%\(\w+\)\w|%\w|\{\w*\}|<[^>]*>|&\w+;")

    def dotted(text):
        kept = literal.findall(text)
        parts = [re.sub(r"\w", "·", part) for part in literal.split(text)]
        return "".join(part + mark for part, mark in zip(parts, [*kept, ""], strict=True))

    for name in ("gettext", "ngettext", "pgettext", "npgettext"):
        real = getattr(trans_real.DjangoTranslation, name)
        monkeypatch.setattr(
            trans_real.DjangoTranslation,
            name,
            lambda self, *args, real=real: dotted(real(self, *args)),
        )
    monkeypatch.setattr(jobs, "all_jobs", lambda: {"shop.ship": None})
    settings.LANGUAGE_CODE = "de"
    left = {
        words
        for text in pages(reader)
        for words in Words(text).said
        if {*re.findall(r"[A-Za-z]{2,}", re.sub(r"[0-9a-f-]{8,}…?", "", words))} - DATA
    }
    assert left == set()


def test_what_is_written_down_is_english_whoever_writes_it(operator, settings):
    settings.LANGUAGE_CODE = "fr"
    record = made("in_doubt")
    done = operator.confirm(operator.press("it_happened", record), reason="vu là-bas")
    assert said(done) == ["Cela a eu lieu : 1 enregistrement."]
    assert LogEntry.objects.get().get_change_message() == "It happened: vu là-bas"
    resolved = IdempotencyEvent.objects.get(kind="resolved")
    assert resolved.note == "It happened, said by ada: vu là-bas"


def test_a_command_speaks_english_whatever_the_project_speaks(settings):
    settings.LANGUAGE_CODE = "de"
    record = made("in_doubt")
    out = StringIO()
    call_command("idempotency_show", record.key_hash.hex, stdout=out)
    assert "It waits until somebody says what happened" in out.getvalue()


def test_a_number_is_written_as_the_language_writes_it(reader, settings):
    settings.LANGUAGE_CODE = "de"
    record = made(result='"' + "x" * 2000 + '"')
    event(record, "failed", duration=timedelta(seconds=1.5))
    assert "1,500 s" in shown(reader.client, record)
