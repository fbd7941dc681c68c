"""Runs the migrations that a database does not have yet.

This is safe when several processes start at once: they queue behind one advisory lock, and the second finds nothing to
do. It is safe while other processes work: each migration is a transaction (or several,
:mod:`ledgerq_shared.migrations.online`) that waits for a lock only for a moment, because everybody else waits behind
it; then it gives way and is tried again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util.exc import CommandError

from ledgerq_shared.connecting import connect
from ledgerq_shared.languages import say
from ledgerq_shared.migrations import revisions
from ledgerq_shared.migrations.ground import check_ground
from ledgerq_shared.settings import SettingsError

#: An arbitrary number, but the same for every process that migrates, so that several processes that start at once wait
#: for one another.
_MIGRATION_LOCK = 7_233_519_004
_LOOK_EVERY, _SAY_EVERY = 0.3, 10.0
#: SQLSTATEs of a lock that was not available, a deadlock, and a statement that would have held a lock for too long.
_CANCELED = "57014"
_AGAIN = ("55P03", "40P01", _CANCELED)
#: How often a statement may take too long because the machine is busy.
_TOO_LONG = 20


def run_missing(database_url: str, tell: Callable[[str], None]) -> str | None:
    """Run the missing migrations; returns the revision before (None: an empty database).

    Args:
        tell: called now and then with what a migration waits for.

    Raises:
        SettingsError: the ledger's tables cannot be made in this database.
        psycopg2.Error: PostgreSQL is away, or refuses a step.
    """
    engine = _engine(database_url)
    try:
        with _alone(engine):
            before = _before(engine)
            for revision in _missing(before):
                _run_patiently(engine, revision, is_first=before is None, tell=tell)
        return before
    except sqlalchemy.exc.DBAPIError as error:
        if isinstance(error.orig, psycopg2.Error):
            raise error.orig from error
        raise
    finally:
        engine.dispose()


@contextlib.contextmanager
def _alone(engine: sqlalchemy.Engine) -> Iterator[None]:
    """Let nobody else migrate meanwhile: a separate transaction holds the lock. A process that waits for the lock asks
    again and again, because an index that is built concurrently would wait for a statement that waits.
    """
    with engine.connect() as connection:
        while not connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_MIGRATION_LOCK})").scalar():
            connection.rollback()
            time.sleep(_LOOK_EVERY)
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield


def _before(engine: sqlalchemy.Engine) -> str | None:
    with engine.connect() as connection:
        try:
            before = MigrationContext.configure(connection).get_current_revision()
        except CommandError as error:
            raise SettingsError("the table alembic_version is not LedgerQ's: {what}", what=error) from None
        check_ground(connection, before)
        return before


def _missing(before: str | None) -> list[str]:
    """The revisions to come, the first one first; none if the database has one of a later release."""
    known = revisions()
    if before is None:
        return known
    return known[known.index(before) + 1 :] if before in known else []


def _run_patiently(engine: sqlalchemy.Engine, revision: str, *, is_first: bool, tell: Callable[[str], None]) -> None:
    """Try one migration again and again, until it gets its locks."""
    began, said, too_long = time.monotonic(), time.monotonic(), 0
    while True:
        config = _config()
        try:
            with engine.connect() as connection:
                config.attributes.update(connection=connection, is_brief=not is_first)
                command.upgrade(config, revision)
                connection.commit()
                return
        except sqlalchemy.exc.DBAPIError as error:
            code = getattr(error.orig, "pgcode", None)
            too_long += code == _CANCELED
            if code not in _AGAIN or too_long > _TOO_LONG:
                raise
        if time.monotonic() - said > _SAY_EVERY:
            said = time.monotonic()
            tell(
                say(
                    "revision {revision} has waited {seconds:.0f} s for somebody's lock; nobody waits for it meanwhile",
                    revision=revision,
                    seconds=said - began,
                )
            )
        time.sleep(_LOOK_EVERY)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def _engine(database_url: str) -> sqlalchemy.Engine:
    # SQLAlchemy cannot read a list of hosts, so it does not get the URL.
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg2://",
        poolclass=sqlalchemy.NullPool,
        creator=lambda: connect(database_url, application_name="ledgerq-migrate", connect_timeout=5),
    )
    sqlalchemy.event.listen(engine, "begin", _wait_briefly)
    return engine


def _wait_briefly(connection: sqlalchemy.Connection) -> None:
    """Applies to every transaction: it gives way to anybody who has a lock."""
    if not connection.connection.autocommit:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = 0")
