"""When the leader's row shows that the ledger has lost what it once had, and when it does not."""

from __future__ import annotations

import pytest

from ledgerq_worker.maintenance.witness import Seen, is_older

#: As `one` left it, with a lease of 4 s; asked at 10 s of this process's clock.
LAST = Seen("one", until=1004.0, clock=1000.0, began=10.0, ended=10.1)


@pytest.mark.parametrize(
    ("holder", "until", "clock", "began", "expected"),
    [
        ("one", 1004.0, 1001.0, 11.0, False),  # nobody has written since
        ("one", 1005.3, 1001.4, 11.4, False),  # renewed
        ("two", 1014.0, 1011.0, 21.0, False),  # another leads since
        ("two", 1000.9, 1011.0, 21.0, False),  # … with a lease of a second, over by now
        (None, 0.0, 1011.0, 21.0, False),  # given up
        ("one", 1002.7, 1011.0, 21.0, True),  # an earlier renewal
        ("two", 998.0, 1011.0, 21.0, True),  # who led before
        ("two", 998.0, 90_000.0, 89_010.0, True),  # … found the next day
        ("two", 704.0, 701.0, 11.0, False),  # the clock was set back by five minutes, and another leads since
        ("one", 704.9, 701.0, 11.0, False),  # … or the same
        ("one", 604.0, 701.0, 11.0, True),  # … and it went back on top of it
        ("one", 1002.7, 4600.0, 11.0, True),  # the clock was set forward
    ],
)
def test_a_row_is_older_if_it_was_written_before_the_last_look_by_a_clock_that_went_on(
    holder: str | None, until: float, clock: float, began: float, expected: bool
):
    assert is_older(Seen(holder, until, clock, began, began + 0.1), LAST) is expected


def test_whoever_sees_it_for_the_first_time_after_nobody_had_it_knows_nothing():
    assert not is_older(LAST, Seen(None, 0.0, 2000.0, 5.0, 5.1))
