"""The tools of the other tests do what they say."""

import psycopg
import pytest

from tests.harness.gates import Gates, reach
from tests.harness.processes import database_url
from tests.harness.proxy import Proxy

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def direct():
    with psycopg.connect(database_url(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def proxied(proxy: Proxy):
    with psycopg.connect(proxy.url) as connection:
        yield connection


@pytest.fixture
def _table(direct: psycopg.Connection):
    direct.execute("CREATE TABLE proxied (value int)")
    yield
    direct.execute("DROP TABLE proxied")


def rows(connection: psycopg.Connection) -> int:
    (number,) = connection.execute("SELECT count(*) FROM proxied").fetchone()
    return number


@pytest.mark.usefixtures("_table")
@pytest.mark.parametrize(("place", "committed"), [("before", 0), ("after", 1)])
def test_a_cut_commit_is_swallowed_or_loses_its_reply(place, committed, proxy, proxied, direct):
    stop = proxy.cut(**{place: "COMMIT"})
    proxied.execute("INSERT INTO proxied VALUES (1)")
    with pytest.raises(psycopg.OperationalError):
        proxied.commit()
    assert stop.hits == 1
    assert rows(direct) == committed


@pytest.mark.usefixtures("_table")
def test_an_extended_query_is_found_by_its_text_too(proxy, proxied, direct):
    stop = proxy.cut(after="INSERT")
    proxied.autocommit = True
    with pytest.raises(psycopg.OperationalError):
        proxied.execute("INSERT INTO proxied VALUES (%s)", [1])
    assert stop.hits == 1
    assert rows(direct) == 1


def test_the_word_commit_is_not_found_inside_a_longer_word(proxy, proxied):
    stop = proxy.cut(before="COMMIT")
    proxied.execute("SET LOCAL synchronous_commit = on")
    proxied.rollback()
    assert stop.hits == 0


def test_statements_and_round_trips_are_counted(proxy, proxied):
    before, proxied.autocommit = proxy.round_trips, True
    proxied.execute("SELECT 1; SELECT 2")
    proxied.execute("SELECT %s", [3])
    assert proxy.statements[-2:] == ["SELECT 1; SELECT 2", "SELECT $1"]
    assert proxy.round_trips - before == 2


def test_a_called_process_is_held_at_a_gate_and_answers(call, gates: Gates):
    gates.close("here")
    process = call("tests.harness.test_proxy:pass_gate", name="here")
    assert gates.wait_for_arrivals("here") == [process.pid]
    assert process.running
    gates.open("here")
    assert process.answer() == ["here"]


def pass_gate(name: str) -> list[str]:
    reach(name)
    return [name]
