"""Ids take the ledger's time where the machine's clock is off, and the machine's where it is right."""

from __future__ import annotations

import time

import pytest
from structlog.testing import capture_logs

from ledgerq_shared import clock, ids


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch):
    for name, value in (("beyond_monotonic", None), ("corrections", 0)):
        monkeypatch.setattr(clock, name, value)
    monkeypatch.setattr(ids, "_last", 0)
    monkeypatch.setattr(ids, "_corrections", 0)


def seconds_of_new_id() -> float:
    moment = ids.time_of(ids.new_task_id())
    assert moment is not None
    return moment.timestamp()


@pytest.mark.parametrize("off", [-900.0, 900.0, 86_400.0])
def test_an_id_has_the_ledgers_time_whatever_the_machines_clock_says(off: float):
    ids.new_task_id()
    with capture_logs() as lines:
        for _ in range(3):
            clock.note(time.time() - off, time.monotonic())
    assert [line["event"] for line in lines] == ["clock.is_off"]
    assert lines[0]["seconds"] == pytest.approx(off, abs=1)
    assert seconds_of_new_id() == pytest.approx(time.time() - off, abs=5)
    first, second = ids.new_task_id(), ids.new_task_id()
    assert first < second
    clock.note(time.time(), time.monotonic())
    assert seconds_of_new_id() == pytest.approx(time.time(), abs=5)


@pytest.mark.parametrize("off", [0.0, 0.4, -0.4])
def test_what_is_less_than_a_second_is_no_matter(off: float):
    with capture_logs() as lines:
        clock.note(time.time() + off, time.monotonic())
    assert lines == []
    assert clock.beyond_monotonic is None


def test_an_answer_that_took_long_says_little():
    with capture_logs() as lines:
        clock.note(time.time() - 10, time.monotonic() - 30)
    assert lines == []
