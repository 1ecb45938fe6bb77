"""Write the pages of reference again that are made of the code: ``python -m tests.docs``."""

from importlib import import_module

import django
from django.conf import settings

settings.configure(INSTALLED_APPS=["idempotency"])
django.setup()
for name in ("settings_page", "errors_page", "signals_page", "states_page"):
    generated = import_module(f"tests.docs.{name}")
    generated.PAGE.write_text(generated.page())
