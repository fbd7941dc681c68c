"""API keys for tests, made as the command line makes them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ledgerq_api.auth.administration import KeyStore
from ledgerq_shared.postgres.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ledgerq_api.auth.key_scopes import KeyScope


@contextmanager
def store(database_url: str) -> Iterator[KeyStore]:
    """The keys of a ledger."""
    database = Database(database_url, application_name="test", size=1)
    try:
        yield KeyStore(database)
    finally:
        database.close()


def make(database_url: str, *scopes: KeyScope, expires_in: float | None = None) -> tuple[str, str]:
    """Make a key; return its id and itself."""
    with store(database_url) as keys:
        made = keys.make(name="test", scopes=scopes, expires_in=expires_in)
    assert made.key
    return made.row.id, made.key


def bearer(key: str) -> dict[str, str]:
    """The header that sends a key."""
    return {"Authorization": f"Bearer {key}"}
