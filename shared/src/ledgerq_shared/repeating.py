"""One way to do a transaction again: until it is known what became of it, as long as somebody waits; or until it is done.

:class:`Tries` decides whether there is another try, and when; who asks says with what :class:`Patience`.

|                    | `until_known`                   | `until_done`                | `tried`                       |
| for who            | keeps somebody waiting          | may not go on before        | comes back to it by himself   |
| gives up           | after so many seconds           | never, or after so many     | after one try                 |
| PostgreSQL is away | the second try that finds it so | tried again                 | an error                      |
|                    | is the last                     |                             |                               |
| refused just now   | tried again                     | tried again                 | not done                      |
| a commit in doubt  | tried again, once at least      | tried again                 | not done                      |
| pauses, in seconds | 0.02 to 0.2                     | 0.1 to 0.75                 |                               |
| tells              | its caller, by an error         | the log, each time          | the log                       |
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import psycopg2
import structlog

from ledgerq_shared import outages
from ledgerq_shared.errors import LedgerUnavailable, OutcomeUnknown

log = structlog.get_logger()

T = TypeVar("T")


class Patience(NamedTuple):
    """For how long a transaction is done again, and how soon."""

    #: After so many seconds it is given up.
    seconds: float
    #: Seconds between two tries. Each pause is twice as long as the one before it.
    first_pause: float
    longest_pause: float
    #: Whether it goes on while PostgreSQL is away. Who keeps somebody waiting does not.
    outlasts_outages: bool


class Tries:
    """What the tries of one transaction have come to. Decides whether there is another one; does nothing by itself.

    Args:
        begun_at: when the first one began, by the monotonic clock.
    """

    def __init__(self, patience: Patience, begun_at: float) -> None:
        self._patience = patience
        self._give_up_at = begun_at + patience.seconds
        self._pause = patience.first_pause
        self._failed = self._found_away = 0
        #: Whether one of them may have been committed.
        self.is_unknown = False

    def failed(self, error: BaseException, now: float) -> float | None:
        """One more has failed. Returns the seconds until the next one; None: that was the last.

        A connection that died while it was idle costs a second try at once. A commit of which nobody knows is tried again
        once at least, however long it took until that was known.
        """
        is_away = isinstance(error, LedgerUnavailable) and not error.is_busy
        self.is_unknown = self.is_unknown or isinstance(error, OutcomeUnknown)
        self._failed += 1
        self._found_away += is_away
        if self._found_away > 1 and not (self.is_unknown or self._patience.outlasts_outages):
            return None
        if now > self._give_up_at and (self._failed > 1 or not self.is_unknown):
            return None
        if is_away and self._found_away == 1:
            return 0.0
        pause, self._pause = self._pause, min(self._pause * 2, self._patience.longest_pause)
        return pause


def any_refusal(error: Exception) -> bool:
    """For :func:`until_done`: to outlast whatever PostgreSQL refuses."""
    return isinstance(error, psycopg2.Error)


def no_refusal(error: Exception) -> bool:
    """For :func:`until_done`: to outlast nothing that PostgreSQL refuses."""
    return False


def until_known(work: Callable[[bool], T], *, seconds: float) -> T:
    """What ``work`` returns, once it was committed; for somebody who waits for it.

    Where the second try finds PostgreSQL away, it is away. A refusal that passes (a deadlock, a lock that somebody holds)
    and a commit of which nobody knows are tried again for ``seconds``.

    Args:
        work: one transaction, which may be run again; it is told whether an earlier run may have been committed.

    Raises:
        LedgerUnavailable: nothing was recorded.
        OutcomeUnknown: nobody knows whether it was.
    """
    patience = Patience(seconds, first_pause=0.02, longest_pause=0.2, outlasts_outages=False)
    return _repeat(work, patience, no_refusal, _tell_nobody)


def until_done(
    work: Callable[[bool], T],
    *,
    what: str,
    seconds: float = math.inf,
    outlasts: Callable[[Exception], bool] = no_refusal,
    **fields: Any,
) -> T:
    """What ``work`` returns, once it was committed, whatever that takes; for who may not go on before.

    Whoever is the primary after a failover is found within a second of its being there.

    Args:
        work: as in :func:`until_known`.
        what: for the log: ``<what>.ledger_unavailable``, ``.outcome_unknown``, ``.not_possible``.
        seconds: after so many it is given up.
        outlasts: of any other error: whether to try again. Somebody must put it right, and until then this waits.
        fields: more for the log.

    Raises:
        LedgerUnavailable: ``seconds`` are over, and nothing was recorded.
        OutcomeUnknown: they are over, and nobody knows whether it was.
    """
    patience = Patience(seconds, first_pause=0.1, longest_pause=0.75, outlasts_outages=True)
    return _repeat(work, patience, outlasts, lambda error: _tell(what, error, fields))


def tried(work: Callable[[], object], *, what: str) -> bool:
    """Do one transaction once, and say whether it is done; for who has other work, and comes back to this by himself.
    What stands in its way (somebody's lock, a standby that is away, a refusal) is told to the log.

    Raises:
        LedgerUnavailable: PostgreSQL is away.
    """
    try:
        work()
    except LedgerUnavailable as error:
        if not error.is_busy:
            raise
        reason = error.detail
    except OutcomeUnknown as error:  # it is done again
        reason = error.detail
    except psycopg2.Error as error:
        reason = str(error).strip()
    else:
        return True
    log.warning(f"{what}.tries_again", error=reason)
    return False


def _repeat(
    work: Callable[[bool], T],
    patience: Patience,
    outlasts: Callable[[Exception], bool],
    tell: Callable[[Exception], object],
) -> T:
    tries = Tries(patience, time.monotonic())
    while True:
        failure: Exception
        try:
            return work(tries.is_unknown)
        except (LedgerUnavailable, OutcomeUnknown) as error:
            failure = error
        except Exception as error:
            if not outlasts(error):
                raise
            failure = error
        tell(failure)
        pause = tries.failed(failure, time.monotonic())
        if pause is None:
            if tries.is_unknown and not isinstance(failure, OutcomeUnknown):
                raise OutcomeUnknown from failure
            raise failure
        time.sleep(pause)


def _tell_nobody(error: Exception) -> None:
    """Its caller learns it."""


def _tell(what: str, error: Exception, fields: dict[str, Any]) -> None:
    if isinstance(error, LedgerUnavailable):
        outages.note(f"{what}.ledger_unavailable", error, **fields)
    elif isinstance(error, OutcomeUnknown):
        log.warning(f"{what}.outcome_unknown", error=error.detail, **fields)
    else:
        log.error(f"{what}.not_possible", error=str(error).strip(), **fields)
