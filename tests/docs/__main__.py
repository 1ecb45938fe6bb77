"""Write the pages again that are made of the code: ``python -m tests.docs``."""

import os
from importlib import import_module

import django

# No server is asked.
os.environ |= {
    "DJANGO_SETTINGS_MODULE": "tests.settings",
    "DATABASE_URL": "postgresql:///nowhere",
    "CELERY_BROKER_URL": "redis://127.0.0.1:1",
}
django.setup()
PAGES = ("bad_input", "errors", "guarantees", "settings", "signals", "states", "storms")
for name in (f"{page}_page" for page in PAGES):
    generated = import_module(f"tests.docs.{name}")
    generated.PAGE.write_text(generated.page())
