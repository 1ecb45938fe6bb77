"""Both ways in which a test may use the database."""

import pytest

# Installed, the app brings its plugin with it; from a checkout only the fixture is needed here.
from idempotency.testing.plugin import moment_of_death

__all__ = ["either", "moment_of_death"]


@pytest.fixture(
    params=[
        pytest.param("rolled back", marks=pytest.mark.django_db),
        pytest.param("committed", marks=pytest.mark.django_db(transaction=True)),
    ]
)
def either(request):
    """The test runs inside a TestCase, and then where it commits."""
    return request.param
