"""The list of protections does not rot: each patch applies, each test that it names exists. `make mutants` tries them."""

from __future__ import annotations

import pytest

from tests.mutants.patches import Mutant, check, mutants

LEAST = 40


def test_there_are_protections_of_many_kinds():
    found = mutants()
    assert len(found) >= LEAST
    assert len({mutant.file for mutant in found}) >= LEAST // 2


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_a_protection_can_be_taken_out_and_its_tests_exist(mutant: Mutant):
    check(mutant)
    assert mutant.why
