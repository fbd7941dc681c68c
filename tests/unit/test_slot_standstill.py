"""Which slots stand still, from one look after another."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ledgerq_worker.node.slot_standstill import Standstill
from ledgerq_worker.slot.table import SlotRecord

_TASK = "00000000-0000-7000-8000-000000000001"


@dataclass
class Slot:
    """One slot, as the agent sees it."""

    record: SlotRecord
    is_stopped: bool = False
    standstill: Standstill = field(default_factory=lambda: Standstill(stopped_for=10.0))

    def looks(self, *times: float, **changes: object) -> list[bool]:
        """What looks at these times find, after some fields have changed."""
        self.record = self.record._replace(**changes)  # type: ignore[arg-type]
        return [bool(self.standstill.look([self.record], now, is_stopped=lambda _: self.is_stopped)) for now in times]


def _slot(**fields: object) -> Slot:
    usual = SlotRecord(0, 100, 1, None, 0.0, 0.0, is_cancelled=False, is_draining=True, signs_by=50.0)
    return Slot(usual._replace(**fields))  # type: ignore[arg-type]


def test_a_slot_that_gives_no_sign_by_its_time_stands_still_after_several_looks():
    assert _slot().looks(48, 49, 50, 51, 52, 53) == [False, False, False, False, False, True]


def test_a_sign_between_two_looks_ends_the_doubt():
    slot = _slot()
    assert slot.looks(51, 52) == [False, False]
    assert slot.looks(53, 54, signs_by=52.5) == [False, False]
    assert slot.looks(55) == [True]


@pytest.mark.parametrize(
    "fields",
    [{"task_id": _TASK}, {"is_draining": False}, {"signs_by": 0.0}],
    ids=["runs a task, however long", "is idle", "has promised nothing"],
)
def test_a_slot_that_need_give_no_sign_never_stands_still(fields: dict[str, object]):
    assert not any(_slot(**fields).looks(60, 600, 6000, 60000, 600000))


@pytest.mark.parametrize("fields", [{"task_id": _TASK}, {"is_draining": False}, {"signs_by": 1000.0}])
def test_a_stopped_process_stands_still_after_the_time_of_a_lease_whatever_it_does(fields: dict[str, object]):
    slot = _slot(**fields)
    slot.is_stopped = True
    assert slot.looks(1, 5, 10, 11, 12) == [False, False, False, True, True]


def test_who_was_stopped_and_goes_on_begins_anew():
    slot = _slot(signs_by=1000.0)
    slot.is_stopped = True
    assert not any(slot.looks(1, 5, 10))
    slot.is_stopped = False
    assert not any(slot.looks(11))
    slot.is_stopped = True
    assert not any(slot.looks(12, 13, 14, 21))


def test_an_agent_that_stood_still_itself_looks_several_times_before_it_says_so():
    slot = _slot()
    slot.is_stopped = True
    assert slot.looks(1, 3601, 3601.2) == [False, False, True]
    assert _slot().looks(5000) == [False]


def test_while_nobody_is_at_fault_no_looks_are_counted():
    slot = _slot()
    slot.looks(51, 52)
    slot.standstill.forget()
    assert slot.looks(53, 54, 55) == [False, False, True]
