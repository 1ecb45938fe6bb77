"""The breakages of ``make mutants`` are of the code as it is."""

from tests.mutants.__main__ import MUTANTS


def test_every_mutant_breaks_a_line_that_is_there():
    assert [mutant.breaks for mutant in MUTANTS if mutant.is_stale()] == []


def test_no_two_mutants_have_one_name():
    names = [mutant.breaks for mutant in MUTANTS]
    assert sorted(set(names)) == sorted(names)
