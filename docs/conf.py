"""Sphinx: these pages as a site. ``make docs`` builds it, and reaches for nothing on a network."""

import sys
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

# The reference imports the app. No database is asked.
settings.configure(INSTALLED_APPS=["idempotency"], USE_TZ=True)
django.setup()

from idempotency import exceptions  # noqa: E402 models can be imported from here on only

project = "django-transactional-idempotency"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"  # a docstring's `name`

myst_heading_anchors = 3  # so that a link to a heading is checked; as GitHub makes them

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True  # an attribute has its entry already
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 72
nitpicky = True
# Other people's documentation is not fetched, so their names lead nowhere.
nitpick_ignore_regex = [
    ("py:.*", r"(collections|contextlib|datetime|django|enum|typing|uuid)\..*"),
    ("py:class", r"(.*\.)?[PR]|.*\.(Whole|_Unset)"),  # type variables, and types of a single value
]

html_theme = "furo"
html_title = project
pygments_dark_style = "monokai"  # the theme's own underlines what is imported
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False


def link_to_errors(app: Sphinx, env: Any, node: Any, content: nodes.Element) -> Any:
    """Our exceptions, which docstrings name under ``Raises:``, are headings of a page."""
    name = node["reftarget"].removeprefix("idempotency.").removeprefix("exceptions.")
    if node.get("reftype") not in ("exc", "class") or not hasattr(exceptions, name):
        return None
    return make_refnode(app.builder, node["refdoc"], "reference/errors", name.lower(), content)


def as_written(app: Sphinx, what: str, name: str, *found: Any) -> tuple[str, None] | None:
    """The decorator as it is written: ``*misuse`` is there to be refused, ``key`` has no default
    but a message, and what it returns is a decorator."""
    signature = found[2]
    if name != "idempotency.idempotent":
        return None
    return signature.replace("*misuse: object", "*").replace(" | None = None", "", 1), None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("missing-reference", link_to_errors)
    app.connect("autodoc-process-signature", as_written)
