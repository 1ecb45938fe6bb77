"""The admin's login of this checkout: the same in every run, made at the first."""

import secrets
from pathlib import Path

from project.servers import write_private

USER = "admin"


def password(state: Path) -> str:
    """The password, kept in the state folder where only this account can read it."""
    file = state / "admin.password"
    if not file.exists():
        write_private(file, secrets.token_urlsafe(9))
    return file.read_text()
