"""The only way to repeat a transaction: until its outcome is known, or until enough time has passed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ledgerq_shared.errors import LedgerUnavailable, OutcomeUnknown

T = TypeVar("T")

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.2


def until_known(work: Callable[[bool], T], *, seconds: float) -> T:
    """What ``work`` returns, after it was committed.

    If a connection died while it was idle, the work is tried again at once; if the second try also finds PostgreSQL
    away, it is away. After a refusal that passes (a deadlock, a lock that somebody holds) or a commit of unknown
    outcome, the work is tried again for ``seconds``; after an unknown outcome at least once, however long the first try
    took.

    Args:
        work: one transaction, which may be run again; its argument says whether an earlier run may have been committed.

    Raises:
        LedgerUnavailable: nothing was recorded.
        OutcomeUnknown: nobody knows whether it was recorded.
    """
    give_up_at = time.monotonic() + seconds
    is_unknown = False
    failures, tries, pause = 0, 0, _FIRST_PAUSE
    while True:
        failure: LedgerUnavailable | OutcomeUnknown
        tries += 1
        try:
            return work(is_unknown)
        except OutcomeUnknown as error:
            is_unknown, failure = True, error
        except LedgerUnavailable as error:
            failure = error
            failures += not error.is_busy
        is_away = failures > 1 and not is_unknown
        if is_away or (time.monotonic() > give_up_at and (tries > 1 or not is_unknown)):
            if is_unknown and not isinstance(failure, OutcomeUnknown):
                raise OutcomeUnknown from failure
            raise failure
        if failures != 1 or isinstance(failure, OutcomeUnknown) or failure.is_busy:
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
