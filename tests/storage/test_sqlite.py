"""SQLite: the contract, and what is its own."""

import threading

import pytest
from django.db import OperationalError, connections, transaction

from idempotency.exceptions import TransactionLost
from idempotency.models import IdempotencyRecord
from idempotency.storage import storage_for
from tests.storage.contract import StorageContract


@pytest.mark.django_db(transaction=True, databases=["default", "sqlite"])
class TestSQLite(StorageContract):
    using = "sqlite"

    @pytest.fixture
    def impatient(self, monkeypatch):
        """A connection that waits for nobody."""
        monkeypatch.setitem(connections["sqlite"].settings_dict["OPTIONS"], "timeout", 0.1)
        connections["sqlite"].close()
        yield
        connections["sqlite"].close()

    def test_while_another_writes_it_is_lost_and_no_failure(self, impatient):
        begun, over = threading.Event(), threading.Event()

        def write():
            try:
                with transaction.atomic(using="sqlite"):
                    self.effect("other")
                    begun.set()
                    assert over.wait(20)
            finally:
                connections.close_all()

        other = threading.Thread(target=write)
        other.start()
        assert begun.wait(20)
        try:
            with pytest.raises(TransactionLost):
                self.once()
        finally:
            over.set()
            other.join(20)
        assert not IdempotencyRecord.objects.using("sqlite").exists()
        assert self.once().replayed is False

    def test_a_connection_that_was_gone_already_is_left_clean(self):
        connection = connections["sqlite"]
        connection.close()
        connection.in_atomic_block = True  # interrupted while Django began a transaction
        assert storage_for("sqlite")._discard_unless_idle()
        self.assert_clean()

    @pytest.mark.parametrize("mode", [None, "IMMEDIATE"])
    def test_it_is_the_writer_before_it_looks(self, mode, impatient, monkeypatch):
        """Without the mode, a transaction that has read cannot write once somebody else has."""
        options = connections["sqlite"].settings_dict["OPTIONS"]
        monkeypatch.setitem(options, "transaction_mode", mode)
        refused = []

        def begin():
            try:
                connections["sqlite"].cursor().execute("BEGIN IMMEDIATE")
            except OperationalError as error:
                refused.append(str(error))
            finally:
                connections.close_all()

        def body():
            other = threading.Thread(target=begin)
            other.start()
            other.join(20)
            return self.effect()

        assert self.once(body).result == "effect"
        assert refused == ["database is locked"]
