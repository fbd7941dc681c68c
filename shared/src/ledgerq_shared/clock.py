"""The ledger's clock, as this process knows it: the time within ids is the ledger's, whatever the machine's own clock
says.

Lists by time walk ids. An API whose clock is fifteen minutes off would make ids that such lists do not find. So each
new connection asks PostgreSQL for its time, in a round trip that it needs anyway. If the machine's clock is off, ids
use the ledger's time, which the monotonic clock continues.
"""

from __future__ import annotations

import time

import structlog

log = structlog.get_logger()

#: A difference up to this, in nanoseconds, does not matter: callers do not ask for lists with a finer time.
_TOLERABLE = 1_000_000_000

#: The ledger's time minus the monotonic clock's, in nanoseconds; None: the machine's own clock is right.
beyond_monotonic: int | None = None
#: How often the machine's clock was found to be off, or to be off by another amount than before.
corrections = 0


def note(ledger_seconds: float, asked_at: float) -> None:
    """Take note of the time that PostgreSQL has just told.

    Args:
        ledger_seconds: its answer, in seconds since 1970.
        asked_at: when it was asked, by the monotonic clock; the answer was right at some moment between then and now.
    """
    global beyond_monotonic, corrections  # noqa: PLW0603 - a process has one ledger
    answered = time.monotonic_ns()
    may_err = (answered - round(asked_at * 1e9)) // 2
    ledger = round(ledger_seconds * 1e9) + may_err
    off = time.time_ns() - ledger
    if abs(off) <= _TOLERABLE + may_err:
        corrections += beyond_monotonic is not None
        beyond_monotonic = None
        return
    known = None if beyond_monotonic is None else answered + beyond_monotonic
    if known is None or abs(known - ledger) > _TOLERABLE + may_err:  # said once
        what = "this machine's clock differs from PostgreSQL's: ids take the ledger's time"
        log.warning("clock.is_off", what=what, seconds=round(off / 1e9, 1))
        beyond_monotonic = ledger - answered
        corrections += 1
