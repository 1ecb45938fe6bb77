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


def test_settings_that_are_changed_where_they_stand_are_judged_again():
    given = {"LEASE": timedelta(seconds=7)}
    with override_settings(IDEMPOTENCY=given):
        assert conf().LEASE == timedelta(seconds=7)
        given["LEASE"] = timedelta(seconds=8)
        assert conf().LEASE == timedelta(seconds=8)
        given["LEASE"] = 9
        with pytest.raises(ImproperlyConfigured, match="must be a positive timedelta, not 9"):
            conf()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "must be a dict, not list"),
        ({"LEESE": 1}, "unknown option 'LEESE'. Did you mean 'LEASE'?"),
        ({"SPEED": 1}, "unknown option 'SPEED'. Known are: DATABASE, LEASE,"),
        ({"BACKEND": "x", "TTL_SECONDS": 1}, "BACKEND, TTL_SECONDS, which belong to drf-idempote"),
        ({"LEASE": "10m"}, "['LEASE'] must be a positive timedelta, not '10m'"),
        ({"LEASE": 10}, "['LEASE'] must be a positive timedelta, not 10"),
        ({"RETENTION": timedelta(0)}, "['RETENTION'] must be a positive timedelta"),
        ({"MAX_RESULT_BYTES": True}, "['MAX_RESULT_BYTES'] must be a positive int, not True"),
        ({"MAX_REDELIVERIES": 0}, "['MAX_REDELIVERIES'] must be a positive int, not 0"),
        ({"STORE_RESULT": "yes"}, "['STORE_RESULT'] must be True or False, not 'yes'"),
        ({"DATABASE": None}, "['DATABASE'] must be the alias of a database, not None"),
        ({"REDACT": "nowhere.redact"}, "['REDACT'] must be the dotted path of a function, or None"),
        ({"REDACT": "django.conf.settings"}, "['REDACT'] must be the dotted path of a function"),
        ({"REDACT": print}, "['REDACT'] must be the dotted path of a function, or None"),
        ({"KEY_SECRETS": "hush"}, "['KEY_SECRETS'] must be a list of secrets"),
        ({"KEY_SECRETS": [""]}, "['KEY_SECRETS'] must be a list of secrets"),
        ({"KEY_SECRETS": ["hush", 1]}, "['KEY_SECRETS'] must be a list of secrets"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_can(given, said):
    with override_settings(IDEMPOTENCY=given), pytest.raises(ImproperlyConfigured) as refused:
        conf()
    assert said in str(refused.value)
    assert "hush" not in str(refused.value)


@override_settings(IDEMPOTENCY={"LEESE": 1, "LEASE": 1})
def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(ImproperlyConfigured, match=r"LEESE.*\['LEASE'\]"):
        conf()
