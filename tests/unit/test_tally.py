"""What the slots of a node have counted: shared between processes, never falling, bounded."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ledgerq_shared.process.metrics import Tally
from ledgerq_shared.states import State
from ledgerq_worker.slot.ends import GoesOn, Next, Revoked, Succeeded
from ledgerq_worker.slot.tally import CLAIM, METRICS, RUN, WAIT, TallySheet
from tests.support.claimed import claimed_task

LABELS = ("demo.a", "default", "succeeded")


@dataclass
class Ended:
    """As much of a leg as is counted."""

    end: Any
    ended_at: float
    begun_at: float = 1.0
    task: Any = field(default_factory=lambda: claimed_task("demo.a"))


def test_all_slots_are_added_up():
    sheet = TallySheet(3)
    for index in range(3):
        sheet.slot(index).add(RUN, LABELS, [0.002, 0.002, 7.0])
    found = sheet.sums()[RUN.name][LABELS]
    assert sum(found.counts) == 9
    assert round(found.total, 6) == round(3 * 7.004, 6)


@given(st.lists(st.lists(st.floats(0, 1e5), min_size=1, max_size=30), max_size=10))
def test_each_value_is_in_its_bucket(batches: list[list[float]]):
    sheet = TallySheet(1)
    slot = sheet.slot(0)
    for batch in batches:
        slot.add(RUN, LABELS, batch)
    values = [value for batch in batches for value in batch]
    found = sheet.sums()[RUN.name].get(LABELS, Tally([0] * (len(RUN.buckets) + 1), 0.0))
    bounds = [*RUN.buckets, float("inf")]
    below = [sum(found.counts[: index + 1]) for index in range(len(bounds))]
    assert below == [sum(value <= bound for value in values) for bound in bounds]


def test_what_a_forked_process_counts_is_seen_by_its_parent_and_by_its_successor():
    sheet = TallySheet(2)
    for _ in range(3):
        child = os.fork()
        if not child:
            try:
                sheet.slot(1).add(RUN, LABELS, [0.01])
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert sum(sheet.sums()[RUN.name][LABELS].counts) == 3


def test_names_that_are_too_many_or_too_long_are_counted_together():
    sheet = TallySheet(1)
    slot = sheet.slot(0)
    for number in range(1000):
        slot.add(RUN, (f"demo.{number}", "default", "succeeded"), [0.1])
    slot.add(RUN, ("demo." + "x" * 300, "default", "failed"), [0.1])
    slot.add(CLAIM, ("another",), [1])
    found = sheet.sums()
    assert len(found[RUN.name]) < 160
    assert sum(sum(one.counts) for one in found[RUN.name].values()) == 1001
    assert sum(found[RUN.name]["other", "other", "succeeded"].counts) > 800
    assert sum(found[RUN.name]["other", "other", "failed"].counts) == 1
    assert sum(found[CLAIM.name]["other",].counts) == 1


def test_a_flush_is_counted_by_outcome_and_what_was_not_begun_has_no_run_time():
    sheet = TallySheet(1)
    legs = [
        Ended(Succeeded("1"), 1.5),
        Ended(Succeeded("1"), 1.7),
        Ended(GoesOn(State.RETRY, Next("demo.a", "default", 5, 1, None, "{}", None), "{}"), 3.0),
        Ended(Revoked("{}"), 2.0, 0.0),
    ]
    now = datetime.now(UTC)
    claimed = [claimed_task("demo.a", ready_at=now - timedelta(seconds=ago)) for ago in (100, 20, 0.2, -5)]
    sheet.slot(0).flushed(kept=legs, refused=2, claimed=claimed, seconds=0.004)  # type: ignore[arg-type]
    found = sheet.sums()
    outcomes = {labels[2]: (sum(one.counts), one.total) for labels, one in found[RUN.name].items()}
    assert outcomes == {"succeeded": (2, 1.2), "retried": (1, 2.0)}
    waits = found[WAIT.name]["default",]
    assert sum(waits.counts) == 4
    assert 120 < waits.total < 121
    assert found["ledgerq_worker_refused_writes_total"][()].total == 2
    assert found["ledgerq_worker_flush_tasks"][()].total == 4
    assert found["ledgerq_worker_claim_tasks"]["default",].total == 4


def test_a_new_sheet_is_empty():
    assert TallySheet(4).sums() == {metric.name: {} for metric in METRICS}
