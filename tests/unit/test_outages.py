"""What the log says of a store that fails: when it begins, once a minute, when it is over; never more."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from ledgerq_shared import outages
from ledgerq_shared.errors import LedgerUnavailable
from ledgerq_shared.outages import Outage
from ledgerq_worker.celery.seams.consumer import PromptConsumer


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_outage_has_a_line_when_it_begins_one_a_minute_and_one_when_it_is_over(clock: Clock):
    outage = Outage("Redis", "answers", settles=1.0, clock=clock)
    with capture_logs() as lines:
        for second in range(150):
            clock.now = 1000.0 + second
            for _ in range(7):
                outage.failed("Connection refused.")
        assert outage.seen is not None
        assert outage.seen.reason == "Connection refused."
        outage.worked()
        outage.worked()
    assert outage.seen is None
    assert [(line["event"], line["seconds"], line["failures"]) for line in lines] == [
        ("store.away", 0.0, 1),
        ("store.away", 60.0, 421),
        ("store.away", 120.0, 841),
        ("store.is_back", 149.0, 1050),
    ]


def test_who_leaves_it_to_another_process_says_nothing_aloud_of_a_store_that_is_away(clock: Clock):
    outage = Outage("Redis", "answers", settles=1.0, clock=clock)
    outage.is_told_elsewhere = True
    with capture_logs() as lines:
        outage.failed("Connection refused.")
        assert outage.seen is not None
        outage.worked()
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("store.away", "debug"),
        ("store.is_back", "debug"),
    ]


def test_one_that_comes_and_goes_all_the_time_does_not_fill_the_log(clock: Clock):
    outage = Outage("PostgreSQL", "answers", settles=1.0, clock=clock)
    with capture_logs() as lines:
        for _ in range(100):
            clock.now += 0.1
            outage.failed("lost")
            outage.worked()
    assert len(lines) == 6
    clock.now += 60.0
    with capture_logs() as lines:
        outage.failed("lost")
    assert len(lines) == 1


def test_one_that_stays_is_told_of_though_others_came_and_went_just_before(clock: Clock):
    outage = Outage("PostgreSQL", "answers", settles=1.0, clock=clock)
    for _ in range(5):
        clock.now += 0.1
        outage.failed("lost")
        outage.worked()
    with capture_logs() as lines:
        for _ in range(130):
            outage.failed("Connection refused.")
            clock.now += 1.0
        outage.worked()
    assert [(line["event"], line["seconds"]) for line in lines] == [
        ("store.away", 60.0),
        ("store.away", 120.0),
        ("store.is_back", 130.0),
    ]


def test_success_of_another_kind_ends_it_only_when_nothing_has_failed_for_a_while(clock: Clock):
    outage = Outage("PostgreSQL", "writes", settles=30.0, clock=clock)
    outage.failed("full")
    clock.now += 29.0
    outage.worked(is_same_kind=False)
    assert outage.is_on
    clock.now += 2.0
    outage.worked(is_same_kind=False)
    assert not outage.is_on
    outage.failed("full")
    outage.worked()
    assert not outage.is_on


@pytest.mark.parametrize(("is_told", "level"), [(True, "debug"), (False, "warning")])
def test_what_an_outage_keeps_from_being_done_is_no_line_of_its_own(*, is_told: bool, level: str):
    error = LedgerUnavailable("PostgreSQL cannot be reached.")
    error.is_told = is_told
    with capture_logs() as lines:
        outages.note("agent.ledger_unavailable", error)
    assert [line["log_level"] for line in lines] == [level]


def test_a_worker_asks_a_broker_that_is_away_again_within_a_second_however_long_it_was_away():
    asked: dict[str, Any] = {}

    class Connection:
        def ensure_connection(self, errback: Any, max_retries: Any, **options: Any) -> Connection:
            asked.update(options, max_retries=max_retries)
            return self

    consumer = PromptConsumer.__new__(PromptConsumer)
    consumer.ensure_connected(Connection())
    assert asked["interval_max"] <= 1.0
    assert asked["max_retries"] is None
