"""The keys that are usable, as this process last saw them in the ledger.

All usable keys are held in memory and are read again and again while requests come in. So no request costs a look-up in
the ledger, whatever key it has: a flood of bad keys cannot reach PostgreSQL. While no requests come in, nothing is
read.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ledgerq_api.auth.callers import Caller
from ledgerq_api.auth.key_scopes import KeyScope
from ledgerq_api.auth.keys import digest_of
from ledgerq_api.ledger import Ledger
from ledgerq_shared.errors import LedgerUnavailable, Unavailable
from ledgerq_shared.languages import say
from ledgerq_shared.postgres.database import Cursor, execute
from ledgerq_shared.statements.api_keys import UsableKey, note_use, read_usable_keys

#: Times in seconds. After the first, the keys are read again while requests go on; after the second, requests wait for
#: the keys to be read, so a revoked key works no longer than that. The pause is the shortest time between two reads.
_REFRESH_AFTER = 1.0
_STALE_AFTER = 2.0
_PAUSE = 0.5
#: Seconds that a request waits for PostgreSQL; after that, the keys that were read last decide.
_PATIENCE = 3.0


@dataclass(slots=True, eq=False)
class ApiKey:
    """A usable key."""

    id: str
    sha256: bytes
    scopes: frozenset[str]
    #: A time of the monotonic clock.
    expires_at: float
    is_use_news: bool
    caller: Caller = field(init=False)

    def __post_init__(self) -> None:
        ends = self.may(KeyScope.CONTROL)
        self.caller = Caller(f"key:{self.id}", ends or self.may(KeyScope.READ), ends)

    @property
    def actor(self) -> str:
        """The key as an actor in the event log."""
        return self.caller.actor

    def may(self, scope: KeyScope) -> bool:
        """Whether the key allows calls that need ``scope``."""
        return scope in self.scopes or KeyScope.ADMIN in self.scopes


class Keyring:
    """Knows which keys are usable.

    Args:
        is_open: whether callers need no key as long as none was ever created.
        clock: seconds, monotonic.
    """

    def __init__(self, ledger: Ledger, *, is_open: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock = clock
        #: Once this is true it stays true: a ledger that loses its keys does not become open.
        self.is_required = not is_open
        self._by_digest: dict[bytes, ApiKey] = {}
        self._by_id: dict[str, ApiKey] = {}
        #: When the last successful look began, and when the last look of any outcome ended; by the monotonic clock.
        self._seen_at = -math.inf
        self._looked_at = -math.inf
        self._look: asyncio.Task[None] | None = None
        #: Why the last look failed; None: it did not.
        self._failed: Unavailable | None = None
        self._used: set[str] = set()
        self._noting: asyncio.TimerHandle | None = None
        # The keyring has a thread of its own: threads that are busy with long reads must not keep everybody waiting at
        # the gate.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keys")

    async def refreshed(self) -> None:
        """Returns when the known keys are at most some seconds old, or when PostgreSQL does not answer.

        Raises:
            LedgerUnavailable: there is no answer, and no keys were ever read.
        """
        age = self._clock() - self._looked_at
        if age > _STALE_AFTER:
            await self._wait(self._begin_look())
        elif age > _REFRESH_AFTER:
            self._begin_look()
        self._check_known()

    def is_fresh(self, now: float) -> bool:
        """Whether :meth:`refreshed` has nothing to do."""
        return self._seen_at > -math.inf and now - self._looked_at <= _REFRESH_AFTER

    def find(self, key: bytes) -> ApiKey | None:
        """The usable key; None: none is known."""
        digest = digest_of(key)
        found = self._by_digest.get(digest)
        # Only digests are compared, so the time could reveal only these; they are compared in constant time
        # nevertheless.
        if found is None or not hmac.compare_digest(found.sha256, digest) or found.expires_at <= self._clock():
            return None
        if found.is_use_news:
            self._note_use(found)
        return found

    async def find_surely(self, key: bytes) -> ApiKey | None:
        """As :meth:`find`, after a look at the ledger that began after this call: the key may be new.

        All callers share one look, and there are at most two looks a second.

        Raises:
            LedgerUnavailable: nobody can tell.
        """
        asked_at = self._clock()
        while self._seen_at < asked_at:
            if self._look is None and (pause := self._looked_at + _PAUSE - self._clock()) > 0:
                await asyncio.sleep(pause)
            await self._wait(self._begin_look())
            if self._seen_at < asked_at and self._failed is not None:
                raise LedgerUnavailable(self._failed.said)
        return self.find(key)

    async def still(self, key: ApiKey) -> ApiKey | None:
        """The key as it is now, for requests that have waited long; None: it is no longer usable."""
        await self.refreshed()
        found = self._by_id.get(key.id)
        return None if found is None or found.expires_at <= self._clock() else found

    def close(self) -> None:
        """Wait for a look that has begun."""
        if self._noting is not None:
            self._noting.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _wait(self, look: asyncio.Task[None]) -> None:
        try:
            await asyncio.wait_for(asyncio.shield(look), _PATIENCE)
        except TimeoutError:
            self._failed = LedgerUnavailable(say("PostgreSQL did not answer in time."))
        self._check_known()

    def _check_known(self) -> None:
        """A request that comes right after a failed look must not pass as if there were no keys."""
        if self._seen_at == -math.inf:
            raise LedgerUnavailable(None if self._failed is None else self._failed.said)

    def _begin_look(self) -> asyncio.Task[None]:
        if self._look is None:
            self._look = asyncio.get_running_loop().create_task(self._read())
        return self._look

    async def _read(self) -> None:
        begun_at = self._clock()
        used = list(self._used)
        try:
            rows = await asyncio.get_running_loop().run_in_executor(self._thread, self._rows, used)
        except Unavailable as error:
            self._failed = error
        else:
            self._failed = None
            self._keep(rows, begun_at)
            self._used.difference_update(used)
        finally:
            self._looked_at = self._clock()
            self._look = None

    def _rows(self, used: list[str]) -> list[UsableKey]:
        def work(cursor: Cursor) -> list[UsableKey]:
            if used:
                execute(cursor, note_use(used))
            return execute(cursor, read_usable_keys())

        return self._ledger.repeatable(work, writes=bool(used))

    def _keep(self, rows: list[UsableKey], seen_at: float) -> None:
        keys = [
            ApiKey(
                row.id,
                bytes(row.sha256),
                frozenset(row.scopes or ()),
                math.inf if row.expires_in is None else seen_at + row.expires_in,
                bool(row.is_use_news) and row.id not in self._used,
            )
            for row in rows
            if row.id is not None and row.sha256 is not None
        ]
        self._by_digest = {key.sha256: key for key in keys}
        self._by_id = {key.id: key for key in keys}
        self.is_required = self.is_required or rows[0].is_any
        self._seen_at = seen_at

    def _note_use(self, key: ApiKey) -> None:
        """Record the key's use with the next look, and make sure that there is a next look."""
        key.is_use_news = False
        self._used.add(key.id)
        self._noting = asyncio.get_running_loop().call_later(_PAUSE, self._begin_look)
