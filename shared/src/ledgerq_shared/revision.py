"""Checks that the ledger's tables are as new as this code. Every service does so when it starts, without the packages
that migrations need.
"""

from __future__ import annotations

from psycopg2 import errors as pg

from ledgerq_shared.errors import Unavailable
from ledgerq_shared.migrations import revisions
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.settings import SettingsError
from ledgerq_shared.sql import Statement

_HAS_TABLES: Statement[tuple[bool]] = Statement(
    "SELECT to_regclass('task') IS NOT NULL AND to_regclass('alembic_version') IS NOT NULL", {}
)
_FOUND: Statement[tuple[str]] = Statement("SELECT version_num FROM alembic_version", {})


def needed() -> str:
    """The revision that this code was written for."""
    return revisions()[-1]


def check_revision(database: Database) -> None:
    """Refuse to work on tables that are older than this code. Newer ones are fine: migrations only expand.

    Raises:
        SettingsError: they are older, or there are none.
        LedgerUnavailable: PostgreSQL is away.
    """
    try:
        with database.transaction() as cursor:
            if execute(cursor, _HAS_TABLES) != [(True,)]:
                raise SettingsError("the ledger has no tables yet: run `ledgerq-migrate upgrade` first")
            found = execute(cursor, _FOUND)
    except pg.InsufficientPrivilege:  # then the person who granted the other rights has migrated, too
        return
    for (revision,) in found:
        if revision < needed():
            raise SettingsError(
                "the ledger's tables are older than this release (revision {revision}, it needs "
                "{needed}): run `ledgerq-migrate upgrade` first, or wait for whoever does with "
                "`ledgerq-migrate wait`",
                revision=revision,
                needed=needed(),
            )


def check_revision_if_reachable(database: Database) -> None:
    """The same check for a service that starts without PostgreSQL and waits for it by itself."""
    try:
        check_revision(database)
    except Unavailable:
        return
