"""Settings are read late, and what is not known is refused."""

from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from idempotency.conf import Conf, conf


@override_settings(IDEMPOTENCY={})
def test_nothing_is_required():
    assert conf() == Conf()


def test_settings_are_read_when_they_are_used():
    with override_settings(IDEMPOTENCY={"LEASE": timedelta(seconds=7)}):
        assert conf().LEASE == timedelta(seconds=7)
    with override_settings(IDEMPOTENCY={"LEASE": timedelta(seconds=8)}):
        assert conf().LEASE == timedelta(seconds=8)


@override_settings(IDEMPOTENCY={"LEESE": 1})
def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ImproperlyConfigured, match=r"LEESE.*LEASE"):
        conf()


@pytest.mark.parametrize("secrets", ["one", [""], [1]])
def test_secrets_that_would_not_be_used_as_meant_are_refused(secrets):
    with (
        override_settings(IDEMPOTENCY={"KEY_SECRETS": secrets}),
        pytest.raises(ImproperlyConfigured, match="KEY_SECRETS"),
    ):
        conf()
