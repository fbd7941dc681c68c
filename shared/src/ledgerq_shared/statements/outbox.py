"""What must leave after a commit and is not in the ledger itself: kept in the same transaction, deleted when it has left."""

from __future__ import annotations

from collections.abc import Sequence

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import plain_array, text_array


def put_in_outbox(kind: str, payloads: Sequence[str]) -> Statement:
    """Keep what must leave after this commit and is not in the ledger itself. Rows: ``(id,)`` in the given order."""
    return Statement(
        """
        INSERT INTO outbox (kind, payload, created_at)
        SELECT %(kind)s, p::json, now() FROM unnest(%(payloads)s::text[]) WITH ORDINALITY AS u(p, n) ORDER BY n
        RETURNING id
        """,
        {"kind": kind, "payloads": text_array(payloads)},
    )


def take_from_outbox(*, ids: Sequence[int] | None = None, older_than: float = 0.0, limit: int = 100) -> Statement:
    """Lock and delete entries; rows: ``(id, kind, payload)``. Do what they say before the commit: a failure keeps them.

    Args:
        ids: these; null: any that is older than ``older_than`` seconds (whoever wrote it would have done it by then).
    """
    return Statement(
        """
        DELETE FROM outbox WHERE id = ANY (ARRAY(
          SELECT id FROM outbox
          WHERE CASE WHEN %(ids)s::bigint[] IS NULL THEN created_at < now() - %(older_than)s * interval '1 second'
                     ELSE id = ANY(%(ids)s::bigint[]) END
          ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
        RETURNING id, kind, payload
        """,
        {"ids": None if ids is None else plain_array(ids), "older_than": older_than, "limit": limit},
    )
