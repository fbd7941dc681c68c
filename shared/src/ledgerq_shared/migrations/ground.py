"""Checks that the ledger's tables can be created in this database: an operator's database is not always empty and
encoded as UTF-8.
"""

from __future__ import annotations

from sqlalchemy import Connection

from ledgerq_shared.models import tables
from ledgerq_shared.settings import SettingsError

_SEEN = """
SELECT current_setting('server_encoding'), current_schema(), current_user, current_database(),
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)
"""
_TAKEN = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relname = ANY (%(names)s) ORDER BY 1 LIMIT 1
"""


def check_ground(connection: Connection, revision: str | None) -> None:
    """Refuse a database that could not work, before anything is created.

    Args:
        revision: the database's revision; None: it is to be filled for the first time.

    Raises:
        SettingsError: it says what is in the way, and what to do.
    """
    if revision is not None:
        if not (revision.isascii() and revision.isdigit()):
            raise SettingsError(
                "the table alembic_version belongs to another application (its revision is "
                "'{revision}'): give LedgerQ a database or a schema of its own",
                revision=revision[:40],
            )
        return
    encoding, schema, user, database, may_create = connection.exec_driver_sql(_SEEN).one()
    if encoding != "UTF8":
        raise SettingsError(
            "the database {database} is encoded as {encoding}, and the ledger needs UTF8: make one "
            "with `CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8'`",
            database=database,
            encoding=encoding,
        )
    if schema is None:
        raise SettingsError(
            "the search_path of role {user} names no schema that there is in database {database}",
            user=user,
            database=database,
        )
    if not may_create:
        raise SettingsError(
            "role {user} may not make tables in schema {schema} of database {database}: let the "
            'schema\'s owner run `GRANT CREATE ON SCHEMA "{schema}" TO "{user}"`',
            user=user,
            schema=schema,
            database=database,
        )
    taken = connection.exec_driver_sql(_TAKEN, {"names": [*tables().tables, "alembic_version"]}).first()
    if taken is not None and not (taken[0] == "alembic_version" and _is_empty_table(connection)):
        raise SettingsError(
            "there is something else called {table} in schema {schema} of database {database}: give "
            "LedgerQ a database or a schema of its own",
            table=taken[0],
            schema=schema,
            database=database,
        )


def _is_empty_table(connection: Connection) -> bool:
    """Whether Alembic's table exists but is empty: a first migration was interrupted or taken back."""
    return connection.exec_driver_sql("SELECT count(*) FROM alembic_version").scalar() == 0
