"""API keys: make, list, revoke, and what an API process needs to know about them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from ledgerq_shared.sql import Nothing, Statement
from ledgerq_shared.statements.arrays import text_array

#: The use of a key is recorded at most once within this time.
_USE_IS_NEWS_AFTER = "5 minutes"

_COLUMNS = """id, name, scopes, created_at, expires_at, revoked_at, last_used_at,
  CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'usable' END"""


class ApiKeyRow(NamedTuple):
    """A key as it is listed. Times are the database's."""

    id: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    #: ``usable``, ``expired`` or ``revoked``.
    state: str


class UsableKey(NamedTuple):
    """What an API process needs to check requests. All fields except ``is_any`` are None if no key is usable."""

    #: Whether a key was ever created, usable or not.
    is_any: bool
    id: str | None
    sha256: memoryview | None
    scopes: list[str] | None
    #: Seconds from now; None: it does not expire.
    expires_in: float | None
    #: Whether a use now would be recorded.
    is_use_news: bool | None


def add_key(
    *,
    key_id: str,
    sha256: bytes,
    name: str,
    scopes: Collection[str],
    expires_in: float | None,
) -> Statement[tuple[datetime | None]]:
    """Add a key. When it expires; no row: the ledger knows a key with this digest.

    Args:
        expires_in: seconds from now; None: it does not expire.
    """
    return Statement(
        _ADD_KEY,
        {
            "id": key_id,
            "sha256": sha256.hex(),
            "name": name,
            "scopes": text_array(scopes),
            "expires_in": expires_in,
        },
    )


_ADD_KEY = """
INSERT INTO api_key (id, sha256, name, scopes, expires_at)
SELECT %(id)s, decode(%(sha256)s, 'hex'), %(name)s, %(scopes)s::text[],
       now() + %(expires_in)s::float8 * interval '1 second'
ON CONFLICT (sha256) DO NOTHING
RETURNING expires_at
"""


def find_key(sha256: bytes) -> Statement[ApiKeyRow]:
    """The key with this digest; none: the ledger does not know it."""
    return Statement(
        f"SELECT {_COLUMNS} FROM api_key WHERE sha256 = decode(%(sha256)s, 'hex')",
        {"sha256": sha256.hex()},
        row=ApiKeyRow._make,
    )


def list_keys() -> Statement[ApiKeyRow]:
    """All keys, oldest first."""
    return Statement(f"SELECT {_COLUMNS} FROM api_key ORDER BY created_at, id", {}, row=ApiKeyRow._make)


def revoke_key(key_id: str) -> Statement[tuple[bool]]:
    """Revoke a key. Whether it was revoked already; no row: there is no such key. Revoking again keeps the first time."""
    return Statement(_REVOKE_KEY, {"id": key_id})


_REVOKE_KEY = """
WITH found AS (SELECT id, revoked_at IS NOT NULL AS was_revoked FROM api_key WHERE id = %(id)s FOR UPDATE),
done AS (UPDATE api_key k SET revoked_at = coalesce(k.revoked_at, now()) FROM found f WHERE k.id = f.id)
SELECT was_revoked FROM found
"""


def read_usable_keys() -> Statement[UsableKey]:
    """One row at least."""
    return Statement(
        f"""
        SELECT a.is_any, k.id, k.sha256, k.scopes, extract(epoch FROM k.expires_at - now())::float8,
               k.last_used_at IS NULL OR k.last_used_at < now() - interval '{_USE_IS_NEWS_AFTER}'
        FROM (SELECT EXISTS (SELECT FROM api_key)) AS a(is_any)
        LEFT JOIN api_key k ON k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
        """,
        {},
        row=UsableKey._make,
    )


def note_use(key_ids: Collection[str]) -> Statement[Nothing]:
    """Record that keys were used just now, unless a use was recorded lately."""
    return Statement(_NOTE_USE, {"ids": text_array(key_ids)})


_NOTE_USE = f"""
UPDATE api_key SET last_used_at = date_trunc('minute', now())
WHERE id = ANY (%(ids)s::text[])
  AND (last_used_at IS NULL OR last_used_at < now() - interval '{_USE_IS_NEWS_AFTER}')
"""
