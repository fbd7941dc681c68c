"""Keeps the catalogue fresh without asking the ledger for every request."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

from ledgerq_api.catalogue import Catalogue, build
from ledgerq_api.ledger import Ledger
from ledgerq_shared.errors import Unavailable
from ledgerq_shared.postgres.database import Cursor, execute
from ledgerq_shared.statements.catalogue import catalogue_version, read_catalogue

#: Seconds after which a request starts a look at the ledger, without waiting for it. An idle API does not look.
_FRESH = 2.0


#: What :func:`catalogue_version` gives.
_Version = tuple[int, datetime | None]


class CatalogueSource:
    """The catalogue, which is read when it is needed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._catalogue: Catalogue | None = None
        self._version: _Version | None = None
        self._checked_at = float("-inf")
        self._refreshing: asyncio.Task[Catalogue] | None = None

    def known(self) -> Catalogue | None:
        """The catalogue as last read, at most about two seconds old while requests come in; None: it was never read."""
        if self._catalogue is not None and time.monotonic() - self._checked_at > _FRESH:
            self._refresh().add_done_callback(_forget_outage)
        return self._catalogue

    async def current(self) -> Catalogue:
        """The catalogue as last read; it is read now if it was never read.

        Raises:
            LedgerUnavailable: it was never read, and cannot be read now.
        """
        return self.known() or await self.latest()

    async def latest(self) -> Catalogue:
        """The catalogue as it is now, for a name that :meth:`current` does not have."""
        return await asyncio.shield(self._refresh())

    def _refresh(self) -> asyncio.Task[Catalogue]:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._read())
        return self._refreshing

    async def _read(self) -> Catalogue:
        self._checked_at = time.monotonic()
        before = self._catalogue
        version, catalogue = await self._ledger.run(lambda cursor: self._read_by(cursor, before))
        self._version, self._catalogue = version, catalogue
        return catalogue

    def _read_by(self, cursor: Cursor, before: Catalogue | None) -> tuple[_Version, Catalogue]:
        [version] = execute(cursor, catalogue_version())
        if before is not None and version == self._version:
            return version, before
        return version, build(execute(cursor, read_catalogue()), before)


def _forget_outage(refresh: asyncio.Task[Catalogue]) -> None:
    """A refresh that nobody waits for may fail with the ledger; the next request tries again."""
    if (
        not refresh.cancelled()
        and isinstance(error := refresh.exception(), Exception)
        and not isinstance(error, Unavailable)
    ):
        raise error
