"""How a transaction is done again: which failures, how soon, how often, and who is told."""

from __future__ import annotations

import math
from collections.abc import Callable

import psycopg2
import pytest
from structlog.testing import capture_logs

from ledgerq_shared.errors import LedgerFull, LedgerUnavailable, OutcomeUnknown
from ledgerq_shared.postgres.repeating import Patience, Tries, any_refusal, tried, until_done, until_known

AWAY, BUSY, UNKNOWN = LedgerUnavailable("away"), LedgerUnavailable("busy", is_busy=True), OutcomeUnknown("in doubt")
REFUSED = psycopg2.ProgrammingError("not yours")
#: Somebody waits; somebody may not go on before; somebody has this to do until the end.
ASKED = Patience(4.0, first_pause=1.0, longest_pause=3.0, outlasts_outages=False)
KEPT = Patience(math.inf, first_pause=1.0, longest_pause=3.0, outlasts_outages=True)
AT_ONCE = Patience(0.0, first_pause=1.0, longest_pause=3.0, outlasts_outages=True)


@pytest.mark.parametrize(
    ("patience", "failures", "pauses"),
    [
        (ASKED, [(AWAY, 0.1), (AWAY, 0.2)], [0.0, None]),
        (ASKED, [(LedgerFull(), 0.1), (AWAY, 0.2)], [0.0, None]),
        (ASKED, [(BUSY, 0.1), (AWAY, 0.2), (BUSY, 0.3), (AWAY, 0.4)], [1.0, 0.0, 2.0, None]),
        (ASKED, [(BUSY, 0.1), (BUSY, 1.1), (BUSY, 3.1), (BUSY, 4.1)], [1.0, 2.0, 3.0, None]),
        (ASKED, [(UNKNOWN, 0.1), (AWAY, 1.1), (AWAY, 2.1), (AWAY, 4.1)], [1.0, 0.0, 2.0, None]),
        (ASKED, [(BUSY, 9.0)], [None]),
        (ASKED, [(UNKNOWN, 9.0), (BUSY, 10.0)], [1.0, None]),
        (ASKED, [(REFUSED, 0.1), (REFUSED, 4.1)], [1.0, None]),
        (KEPT, [(AWAY, 1e3), (AWAY, 1e4), (BUSY, 1e5), (UNKNOWN, 1e6), (REFUSED, 1e7)], [0.0, 1.0, 2.0, 3.0, 3.0]),
        (AT_ONCE, [(AWAY, 0.1)], [None]),
        (AT_ONCE, [(UNKNOWN, 0.1), (AWAY, 0.2)], [1.0, None]),
    ],
    ids=[
        "asked: away, and away again",
        "asked: full is away",
        "asked: busy is not away",
        "asked: busy until the time is over",
        "asked: in doubt, and away meanwhile",
        "asked: busy, and the time is over",
        "asked: in doubt, and the time is over: once more",
        "asked: a refusal that is outlasted",
        "kept: everything, for ever, and not more often than each three seconds",
        "at once: away",
        "at once: in doubt, once more",
    ],
)
def test_whether_there_is_another_try_and_how_soon(
    patience: Patience, failures: list[tuple[Exception, float]], pauses: list[float | None]
):
    """Each failure with its time; the first try began at 0."""
    tries = Tries(patience, 0.0)
    assert [tries.failed(error, at) for error, at in failures] == pauses
    assert tries.is_unknown == any(error is UNKNOWN for error, _ in failures)


def failing(*errors: Exception) -> Callable[[bool], list[bool]]:
    """Work that meets these and then succeeds. Its result: what it was told, in each try, of the tries before."""
    left, told = list(errors), []

    def work(is_unknown: bool) -> list[bool]:
        told.append(is_unknown)
        if left:
            raise left.pop(0)
        return told

    return work


def test_who_waits_is_told_that_it_is_in_doubt_also_when_it_is_away_afterwards():
    with pytest.raises(OutcomeUnknown):
        until_known(failing(UNKNOWN, AWAY, AWAY, AWAY, AWAY, AWAY, AWAY), seconds=0.0)
    with pytest.raises(LedgerUnavailable):
        until_known(failing(AWAY, AWAY), seconds=60.0)
    with pytest.raises(psycopg2.Error):
        until_known(failing(REFUSED), seconds=60.0)


def test_work_is_told_whether_an_earlier_try_may_have_been_committed():
    assert until_known(failing(BUSY, UNKNOWN, BUSY), seconds=60.0) == [False, False, True, True]


def test_who_may_not_go_on_goes_through_everything_and_the_log_tells_of_it():
    with capture_logs() as lines:
        assert len(until_done(failing(BUSY, UNKNOWN, REFUSED), what="it", outlasts=any_refusal, tasks=3)) == 4
    assert [(line["event"], line["log_level"], line["tasks"]) for line in lines] == [
        ("it.ledger_unavailable", "warning", 3),
        ("it.outcome_unknown", "warning", 3),
        ("it.not_possible", "error", 3),
    ]


def test_a_refusal_is_outlasted_only_by_who_says_so():
    with pytest.raises(psycopg2.Error):
        until_done(failing(REFUSED), what="it")
    with pytest.raises(ValueError, match="ours"):
        until_done(failing(ValueError("ours")), what="it", outlasts=any_refusal)
    with pytest.raises(psycopg2.Error):
        until_done(failing(REFUSED), what="it", outlasts=any_refusal, seconds=0.0)


@pytest.mark.parametrize(("error", "reason"), [(BUSY, "busy"), (UNKNOWN, "in doubt"), (REFUSED, "not yours")])
def test_who_comes_back_by_himself_goes_on_to_other_work_and_the_log_tells_why(error: Exception, reason: str):
    work = failing(error)
    with capture_logs() as lines:
        assert not tried(lambda: work(False), what="it")
        assert tried(lambda: work(False), what="it")
    assert [(line["event"], line["error"]) for line in lines] == [("it.tries_again", reason)]


def test_who_comes_back_by_himself_does_no_other_work_while_it_is_away():
    work = failing(AWAY)
    with pytest.raises(LedgerUnavailable):
        tried(lambda: work(False), what="it")
