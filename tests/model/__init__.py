"""Models of the protocol and of the record, and the app beside them."""

import pytest

for name in ("steps", "bodies", "machine"):  # which compare
    pytest.register_assert_rewrite(f"tests.model.{name}")
