"""Which claims of a node are orphans, by what its slots do between two readings."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from ledgerq_shared.statements.recover import HeldClaim
from ledgerq_worker.node.orphans import Orphans
from ledgerq_worker.slot.table import SlotTable

NO = 0x1234
CLAIM = HeldClaim(NO, 0, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def table() -> Iterator[SlotTable]:
    table = SlotTable.create(2)
    table.enter(0, 4711)
    yield table
    table.remove()


def begin(table: SlotTable, claim_no: int) -> None:
    table.begin(0, claim_no, str(uuid4()), 1.0, 0.0)


@pytest.mark.parametrize(
    ("running", "is_orphan"),
    [
        pytest.param(NO, False, id="the claim itself"),
        pytest.param(NO + 1, True, id="a later claim"),
        pytest.param(NO & 0xFF, False, id="a number that is half written"),
        pytest.param(NO & 0xFF00, False, id="a number that is half deleted"),
        pytest.param(0, False, id="between two tasks"),
        pytest.param(None, True, id="the slot rests"),
    ],
)
def test_a_claim_is_an_orphan_if_its_slot_rests_or_runs_a_later_one_between_two_readings(
    table: SlotTable, running: int | None, is_orphan: bool
):
    orphans = Orphans(table, every=10.0)
    assert orphans.is_due
    assert orphans.among([CLAIM]) == set()
    assert not orphans.is_due
    if running is None:
        table.rest(0)
    elif running:
        begin(table, running)
    orphans.look()
    table.enter(0, 4711)
    assert orphans.among([CLAIM]) == ({CLAIM} if is_orphan else set())


def test_what_the_slot_did_before_the_first_reading_tells_nothing(table: SlotTable):
    orphans = Orphans(table, every=10.0)
    table.rest(0)
    orphans.look()
    assert orphans.among([CLAIM]) == set()
    table.enter(0, 4711)
    orphans.look()
    assert orphans.among([CLAIM]) == set()


def test_a_claim_with_a_number_that_was_given_out_again_is_another_one(table: SlotTable):
    orphans = Orphans(table, every=10.0)
    orphans.among([CLAIM])
    table.rest(0)
    orphans.look()
    assert orphans.among([CLAIM._replace(claimed_at=datetime(2026, 1, 2, tzinfo=UTC))]) == set()


def test_while_a_slot_may_keep_an_end_aside_nothing_is_an_orphan(table: SlotTable):
    orphans = Orphans(table, every=10.0)
    orphans.among([CLAIM])
    table.rest(0)
    orphans.look()
    SlotTable(table.path, 2).has_asides()
    assert orphans.among([CLAIM]) == set()


def test_ends_that_nobody_keeps_aside_any_more_stop_nothing(table: SlotTable):
    table.has_asides()
    assert table.may_have_asides
    table.has_asides(within=-1.0)  # a while ago
    assert not table.may_have_asides
    orphans = Orphans(table, every=10.0)
    orphans.among([CLAIM])
    table.rest(0)
    orphans.look()
    assert orphans.among([CLAIM]) == {CLAIM}
