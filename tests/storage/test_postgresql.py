import pytest

from tests.storage.contract import StorageContract


@pytest.mark.django_db(transaction=True)
class TestPostgreSQL(StorageContract):
    using = "default"
