"""One change of the ledger, for a caller that waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from ledgerq_api.ledger import Ledger
from ledgerq_shared.errors import OutcomeUnknown
from ledgerq_shared.postgres.database import Cursor, confirm
from ledgerq_shared.postgres.repeating import until_known

T = TypeVar("T")

#: Seconds for which a change is tried again while PostgreSQL refuses it, or while its outcome is unknown.
_REPEAT_FOR = 4.0


async def change(ledger: Ledger, work: Callable[[Cursor, bool], T]) -> T:
    """What ``work`` returns, after the commit. Its argument says whether the work may have been done before.

    Raises:
        OutcomeUnknown: PostgreSQL did not answer in time, or the commit's outcome is unknown.
        LedgerUnavailable
    """
    made = asyncio.ensure_future(ledger.in_thread(_until_known, ledger, work))
    try:
        return await asyncio.wait_for(asyncio.shield(made), ledger.timeout)
    except TimeoutError:
        made.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise OutcomeUnknown from None


def _until_known(ledger: Ledger, work: Callable[[Cursor, bool], T]) -> T:
    def once(is_repeated: bool) -> T:
        with ledger.database.transaction(timeout=ledger.timeout) as cursor:
            confirm(cursor)  # the change may have been made already, and perhaps no standby has it
            return work(cursor, is_repeated)

    return until_known(once, seconds=_REPEAT_FOR)
