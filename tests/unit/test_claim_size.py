"""How much is claimed at once follows the measured run times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgerq_worker.drain.claim_size import ClaimSize

seconds = st.floats(0, 1e6, allow_nan=False)


@pytest.fixture
def policy() -> ClaimSize:
    return ClaimSize(budget=0.05, limit=200)


def test_an_unknown_queue_gets_one_task(policy: ClaimSize):
    assert policy.limit_for("new") == 1


def test_quick_claims_double_up_to_the_limit(policy: ClaimSize):
    sizes = []
    for _ in range(10):
        sizes.append(policy.limit_for("q"))
        policy.claim_ran("q", sizes[-1], 0.001)
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 128, 200, 200]


def test_a_claim_that_took_too_long_shrinks_at_once_to_what_fits(policy: ClaimSize):
    for _ in range(8):
        policy.claim_ran("q", policy.limit_for("q"), 0.001)
    policy.claim_ran("q", 100, 0.5)
    assert policy.limit_for("q") == 10
    policy.claim_ran("q", 1, 60)
    assert policy.limit_for("q") == 1


def test_a_claim_that_was_not_full_says_nothing_about_larger_ones(policy: ClaimSize):
    policy.claim_ran("q", 1, 0.001)
    policy.claim_ran("q", 1, 0.001)
    assert policy.limit_for("q") == 2


def test_a_claim_of_about_the_budget_keeps_its_size(policy: ClaimSize):
    policy.claim_ran("q", 1, 0.001)
    policy.claim_ran("q", 2, 0.04)
    assert policy.limit_for("q") == 2


def test_queues_are_apart(policy: ClaimSize):
    policy.claim_ran("quick", 1, 0.001)
    assert (policy.limit_for("quick"), policy.limit_for("other")) == (2, 1)


def test_the_first_measurement_counts_fully_and_later_ones_a_fifth(policy: ClaimSize):
    policy.measured("t", 1.0)
    policy.measured("t", 2.0)
    assert policy.cost_of_type["t"] == pytest.approx(1.2)
    policy.measured("t", 0.0)
    assert policy.cost_of_type["t"] == pytest.approx(0.96)


def test_one_long_run_among_short_ones_counts_fully_at_once(policy: ClaimSize):
    for _ in range(100):
        policy.measured("t", 0.001)
    policy.measured("t", 30.0)
    assert policy.cost_of_type["t"] == 30.0


@given(st.lists(st.tuples(st.integers(1, 200), seconds), max_size=60))
def test_the_size_is_always_between_one_and_the_limit(claims: list[tuple[int, float]]):
    policy = ClaimSize(budget=0.05, limit=200)
    for count, took in claims:
        policy.claim_ran("q", count, took)
        assert 1 <= policy.limit_for("q") <= 200


@given(st.lists(seconds, min_size=1, max_size=60))
def test_a_cost_is_positive_and_within_what_was_measured(measured: list[float]):
    policy = ClaimSize(budget=0.05, limit=200)
    for took in measured:
        policy.measured("t", took)
    assert 0 < policy.cost_of_type["t"] <= max(*measured, 1e-6, 0) * (1 + 1e-9)
