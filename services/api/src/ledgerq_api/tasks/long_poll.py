"""Hold a status answer until there is news (``Prefer: wait=30``).

It asks the ledger through the status batcher, so a thousand waiting clients cost one query at a time. A push channel
could replace :meth:`LongPoll.until` without a change for its callers.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

from ledgerq_shared.statements.read_task import StatusRow

#: The longest wait that is granted, in seconds: it is below what proxies commonly allow.
LONGEST_WAIT = 60.0

#: The next look comes after a tenth of the time that the client has waited so far, within bounds: so the end of a quick
#: task is seen within milliseconds, and slow tasks cost four looks a second.
_SHARE = 0.1
_SHORTEST_PAUSE = 0.002
_LONGEST_PAUSE = 0.25

#: Seconds after which it is checked again that the client may wait, because its key may have been revoked.
_CHECK_EVERY = 3.0

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})")


def wait_of(prefer: bytes | None) -> float:
    """Seconds that a ``Prefer`` header asks to wait; 0 without one."""
    match = _WAIT.search(prefer.decode("latin-1").lower()) if prefer else None
    return min(float(match[1]), LONGEST_WAIT) if match else 0.0


class LongPoll:
    """Waits for changes of tasks."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Answer every client that waits: the process is about to end."""
        self._stopping.set()

    async def until(
        self,
        is_news: Callable[[StatusRow], bool],
        read: Callable[[], Awaitable[StatusRow]],
        *,
        seconds: float,
        check: Callable[[], Awaitable[None]],
    ) -> StatusRow:
        """The row, once ``is_news`` accepts it, or as it is after ``seconds``. ``check`` ends the wait by raising."""
        loop = asyncio.get_running_loop()
        begun_at = checked_at = loop.time()
        while True:
            row = await read()
            waited = loop.time() - begun_at
            is_over = is_news(row) or waited >= seconds or self._stopping.is_set()
            if is_over or loop.time() - checked_at >= _CHECK_EVERY:
                await check()
                checked_at = loop.time()
            if is_over:
                return row
            pause = min(max(waited * _SHARE, _SHORTEST_PAUSE), _LONGEST_PAUSE, seconds - waited)
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
