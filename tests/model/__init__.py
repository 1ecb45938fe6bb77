"""Models of the protocol and of the record, and the app beside them."""

import pytest

pytest.register_assert_rewrite("tests.model.machine")  # which compares
