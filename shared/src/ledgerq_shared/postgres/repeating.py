"""The only way to repeat a transaction: until its outcome is known, until enough time has passed, or until it is done.

:class:`Tries` decides whether there is another try, and when. :class:`Patience` says what the caller wants.

|                        | `until_known`                     | `until_done`                 | `tried`                       |
| for a caller that      | keeps somebody waiting            | must not go on before        | has other work and comes back |
| tries                  | for some seconds                  | without end, or some seconds | once                          |
| … PostgreSQL is away   | not after it was found away twice | as long                      | raises                        |
| … the outcome of a     | at least once more                | at least once more           | once                          |
|   commit is unknown    |                                   |                              |                               |
| pauses, in seconds     | 0.02 to 0.2                       | 0.1 to 0.75                  |                               |
| who is told            | the caller, by an error           | the log, of each failure     | the log                       |
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
    """For how long a transaction is tried again, and how soon."""

    #: After this many seconds the work is given up.
    seconds: float
    #: Seconds between two tries. Each pause is twice as long as the one before it.
    first_pause: float
    longest_pause: float
    #: Whether the tries go on while PostgreSQL is away. They do not if a caller waits for the outcome.
    outlasts_outages: bool


class Tries:
    """What happened in the tries of one transaction. It decides whether there is another try, and does nothing else.

    Args:
        begun_at: when the first try began, by the monotonic clock.
    """

    def __init__(self, patience: Patience, begun_at: float) -> None:
        self._patience = patience
        self._give_up_at = begun_at + patience.seconds
        self._pause = patience.first_pause
        self._failed = self._found_away = 0
        #: Whether one of the tries may have been committed.
        self.is_unknown = False

    def failed(self, error: BaseException, now: float) -> float | None:
        """One more try has failed. Returns the seconds until the next try; None: it was the last.

        If a connection died while it was idle, there is a second try at once. After an unknown outcome there is at least
        one more try, however long the first one took.
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
    """For :func:`until_done`: the work is tried again whatever PostgreSQL refuses."""
    return isinstance(error, psycopg2.Error)


def no_refusal(error: Exception) -> bool:
    """For :func:`until_done`: the work is not tried again after a refusal."""
    return False


def until_known(work: Callable[[bool], T], *, seconds: float) -> T:
    """What ``work`` returns, after it was committed; for a caller that keeps somebody waiting.

    If the second try also finds PostgreSQL away, it is away. After a refusal that passes (a deadlock, a lock that somebody
    holds) or a commit of unknown outcome, the work is tried again for ``seconds``.

    Args:
        work: one transaction, which may be run again; its argument says whether an earlier run may have been committed.

    Raises:
        LedgerUnavailable: nothing was recorded.
        OutcomeUnknown: nobody knows whether it was recorded.
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
    """What ``work`` returns, after it was committed, however long that takes; for a caller that must not go on before.

    The pauses are short enough to find the new primary within a second after a failover.

    Args:
        work: as in :func:`until_known`.
        what: begins the names of the log's events: ``<what>.ledger_unavailable``, ``.outcome_unknown``, ``.not_possible``.
        seconds: the work is given up after this many seconds.
        outlasts: whether to try again after any other error. Somebody must put it right, and until then the caller waits.
        fields: more for the log.

    Raises:
        LedgerUnavailable: ``seconds`` have passed, and nothing was recorded.
        OutcomeUnknown: ``seconds`` have passed, and nobody knows whether it was recorded.
    """
    patience = Patience(seconds, first_pause=0.1, longest_pause=0.75, outlasts_outages=True)
    return _repeat(work, patience, outlasts, lambda error: _tell(what, error, fields))


def tried(work: Callable[[], object], *, what: str) -> bool:
    """Try one transaction once, and return whether it is done; for a caller that has other work and comes back to this one.

    The log says what stands in its way: somebody's lock, a standby that is away, a refusal.

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
    """The caller learns it from the error."""


def _tell(what: str, error: Exception, fields: dict[str, Any]) -> None:
    if isinstance(error, LedgerUnavailable):
        outages.note(f"{what}.ledger_unavailable", error, **fields)
    elif isinstance(error, OutcomeUnknown):
        log.warning(f"{what}.outcome_unknown", error=error.detail, **fields)
    else:
        log.error(f"{what}.not_possible", error=str(error).strip(), **fields)
