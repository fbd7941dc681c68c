"""One stored row may stand for three steps; whoever reads sees single steps without gaps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ledgerq_shared.events import Event, StoredEvent, expand

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def at(second: int) -> datetime:
    return T0 + timedelta(seconds=second)


def test_a_plain_row_is_one_step():
    row = StoredEvent(1, T0, "submitted", 0, "api", None, None, {"a": 1})
    assert list(expand([row])) == [Event(1, T0, "submitted", 0, "api", {"a": 1})]


def test_a_start_stands_for_two_steps():
    row = StoredEvent(3, at(2), "started", 1, "worker:w", at(1), None, None)
    assert list(expand([row])) == [
        Event(2, at(1), "dispatched", 0, "worker:w", None),
        Event(3, at(2), "started", 1, "worker:w", None),
    ]


def test_a_quick_end_stands_for_three_steps():
    row = StoredEvent(4, at(3), "succeeded", 1, "worker:w", at(1), at(2), {"x": 1})
    assert list(expand([row])) == [
        Event(2, at(1), "dispatched", 0, "worker:w", None),
        Event(3, at(2), "started", 1, "worker:w", None),
        Event(4, at(3), "succeeded", 1, "worker:w", {"x": 1}),
    ]


def test_a_second_attempt_is_dispatched_in_the_first_ones_name():
    row = StoredEvent(8, at(3), "failed", 2, "worker:w", at(1), at(2), None)
    assert [event.attempt for event in expand([row])] == [1, 2, 2]


def test_nothing_stands_for_nothing():
    assert list(expand([])) == []


@st.composite
def stored_histories(draw: st.DrawFn) -> list[StoredEvent]:
    """Rows as the statements write them: each takes as many numbers as it stands for steps."""
    rows, seq = [StoredEvent(1, T0, "submitted", 0, "api", None, None, None)], 1
    for number, steps in enumerate(draw(st.lists(st.integers(1, 3), max_size=8)), 1):
        seq += steps
        claimed = at(number) if steps > 1 else None
        started = at(number) if steps > 2 else None
        kind = {1: "progress", 2: "started", 3: "retried"}[steps]
        rows.append(StoredEvent(seq, at(number), kind, number, "worker:w", claimed, started, None))
    return rows


@given(stored_histories())
def test_expanded_histories_have_no_gaps_and_keep_their_order(rows: list[StoredEvent]):
    events = list(expand(rows))
    assert [event.seq for event in events] == list(range(1, rows[-1].seq + 1))
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert [event.kind for event in events if event.kind not in ("dispatched", "started")] == [
        row.kind for row in rows if row.kind != "started"
    ]


@given(stored_histories(), st.data())
def test_a_history_can_be_read_in_parts(rows: list[StoredEvent], data: st.DataObject):
    cut = data.draw(st.integers(0, len(rows)))
    assert [*expand(rows[:cut]), *expand(rows[cut:])] == list(expand(rows))
