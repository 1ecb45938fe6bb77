"""The admin's comfort: languages, export, other admins. All names begin with "comfort"."""

from tests.mutants import Mutant

EXPORT = "tests/admin/test_export.py"
LANGUAGES = "tests/admin/test_languages.py"
CATALOGS = "tests/house/test_translations.py"

MUTANTS = [
    Mutant(
        "comfort: export a formula",
        "admin/export.py",
        "isinstance(value, str) and value.startswith(FORMULA)",
        "False",
        f"{EXPORT} -k no_cell",
    ),
    Mutant(
        "comfort: export what must not be shown",
        "admin/export.py",
        "    row = redact(row)\n",
        "",
        f"{EXPORT} -k must_not_be_shown",
    ),
    Mutant(
        "comfort: read all rows before the first is sent",
        "admin/export.py",
        "    parts = lines(names, filter(None, chunks))\n",
        "    parts = iter(list(lines(names, filter(None, chunks))))\n",
        f"{EXPORT} -k bounded_memory",
    ),
    Mutant(
        "comfort: export a local time as UTC",
        "admin/export.py",
        "utc(value).isoformat",
        "value.isoformat",
        f"{EXPORT} -k exact_and_in_utc",
    ),
    Mutant(
        "comfort: read an export to its end under ASGI",
        "admin/export.py",
        "_one_by_one(parts) if isinstance(request, ASGIRequest) else parts",
        "parts",
        f"{EXPORT} -k asgi",
    ),
    Mutant(
        "comfort: say a word in English only",
        "admin/telling.py",
        'whys[_("not there any more")] = gone',
        'whys["not there any more"] = gone',
        f"{CATALOGS} -k sources_have",
    ),
    Mutant(
        "comfort: choose the language of an action when it is imported",
        "admin/operations.py",
        "from django.utils.translation import gettext_lazy as _",
        "from django.utils.translation import gettext as _",
        f"{LANGUAGES} -k left_in_english",
    ),
    Mutant(
        "comfort: write the history in the operator's language",
        "admin/settling.py",
        "with override(None):",
        "if True:",
        f"{LANGUAGES} -k written_down",
    ),
    Mutant(
        "comfort: answer a command in the project's language",
        "management/base.py",
        "    @no_translations  #",
        "    #",
        f"{LANGUAGES} -k command_speaks",
    ),
    Mutant(
        "comfort: link a task result by another name",
        "admin/records.py",
        'task_id=record.task_id)\n\n    @admin.display(description=_("key hash"))',
        'task=record.task_id)\n\n    @admin.display(description=_("key hash"))',
        "tests/admin/test_celery_results.py -k celery_has_kept",
    ),
]
