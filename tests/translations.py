"""``python -m tests.translations``: bring the catalogs up to date with the sources.

What is new is added without a translation, what is gone is dropped, and the ``.mo`` that Django
reads is compiled. Babel does it, so that no GNU gettext is needed.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

APP = Path(__file__).resolve().parents[1] / "idempotency"
HEADER = "# Made by python -m tests.translations: edit the translations, and nothing else.\n#"
#: Two forms each: the third, which Babel knows since 2.19, is of whole millions alone.
PLURALS = {"de": "(n != 1)", "es": "(n != 1)", "fr": "(n > 1)"}
LOCALES = tuple(PLURALS)
#: What is read by programs and developers, and stays English.
ENGLISH = ("management", "migrations", "testing")

FUNCTIONS: dict[str, Any] = {
    **dict.fromkeys(("_", "gettext", "gettext_lazy", "gettext_noop")),
    **dict.fromkeys(("ngettext", "ngettext_lazy"), (1, 2)),
    **dict.fromkeys(("pgettext", "pgettext_lazy"), ((1, "c"), 2)),
    **dict.fromkeys(("npgettext", "npgettext_lazy"), ((1, "c"), 2, 3)),
}


class Plain(Catalog):
    """With a header that is the same each time, whoever writes it."""

    num_plurals = property(lambda self: 2)
    plural_expr = property(lambda self: PLURALS[str(self.locale)])
    mime_headers = property(
        lambda self: [
            ("Language", str(self.locale)),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Transfer-Encoding", "8bit"),
            ("Plural-Forms", self.plural_forms),
        ],
        lambda self, headers: None,
    )


def directory(locale: str) -> Path:
    return APP / "locale" / locale / "LC_MESSAGES"


def sources() -> Catalog:
    """Every string of the app that is meant to be translated."""
    found = Catalog()
    for path in sorted([*APP.rglob("*.py"), *APP.rglob("*.html")]):
        place = path.relative_to(APP)
        if place.parts[0] in ENGLISH:
            continue
        code = path.read_text()
        if path.suffix == ".html":
            # What Django makes of a template for gettext; the reader of Python wants no indents.
            code = "\n".join(line.strip() for line in templatize(code).splitlines())
        for _, text, _, context in extract("python", BytesIO(code.encode()), FUNCTIONS):
            found.add(text, locations=[(str(place), 1)], context=context)
    return found


def catalog(locale: str) -> Catalog:
    """The strings of the sources, each with the translation that it has so far."""
    file = directory(locale) / "django.po"
    known = read_po(BytesIO(file.read_bytes() if file.exists() else b""), locale)
    made = Plain(locale, header_comment=HEADER, fuzzy=False)
    for message in sorted(filter(_is_text, sources()), key=lambda message: str(message.id)):
        before = known.get(message.id, message.context)
        made.add(
            message.id,
            _translation(before),
            locations=sorted(set(message.locations)),
            flags=before.flags & {"fuzzy"} if before else (),
            context=message.context,
        )
    return made


def _is_text(message: Message) -> bool:
    return bool(message.id)


def _translation(before: Message | None) -> Any:
    return before.string if before else None


def po(made: Catalog) -> bytes:
    file = BytesIO()
    write_po(file, made, width=100, include_lineno=False)
    return file.getvalue()


def mo(made: Catalog) -> bytes:
    file = BytesIO()
    write_mo(file, made)
    return file.getvalue()


def main() -> None:
    for locale in LOCALES:
        made = catalog(locale)
        directory(locale).mkdir(parents=True, exist_ok=True)
        (directory(locale) / "django.po").write_bytes(po(made))
        (directory(locale) / "django.mo").write_bytes(mo(made))
        lacking = [message for message in made if message.id and not translated(message)]
        print(f"{locale}: {len(made)} strings, {len(lacking)} without a translation")


def translated(message: Message) -> bool:
    """Whether each form of it has a text that somebody stands by."""
    forms = message.string if isinstance(message.string, tuple | list) else (message.string,)
    return bool(forms) and all(forms) and not message.fuzzy


if __name__ == "__main__":
    main()
