"""``ledgerq-migrate upgrade | check | wait | doctor``: bring the ledger's tables to this release's revision.

This is safe when several processes start at once: they queue behind one advisory lock, and the second finds nothing to
do. It is safe while other processes work: each migration is a transaction (or several,
:mod:`ledgerq_shared.migrations.online`) that waits for a lock only for a moment, because everybody else waits behind
it; then it gives way and is tried again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import psycopg2
import sqlalchemy
import typer
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from ledgerq_shared.connecting import connect, describe
from ledgerq_shared.errors import LedgerQError
from ledgerq_shared.languages import say
from ledgerq_shared.migrations.ground import check_ground
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.process.commands import complain, run_app, write
from ledgerq_shared.process.logging import configure
from ledgerq_shared.settings import LogSettings, SettingsError, StoreSettings, load

#: An arbitrary number, but the same for every process that migrates, so that several processes that start at once wait
#: for one another.
_MIGRATION_LOCK = 7_233_519_004
_LOOK_EVERY, _SAY_EVERY = 0.3, 10.0
#: SQLSTATEs of a lock that was not available, a deadlock, and a statement that would have held a lock for too long.
_CANCELED = "57014"
_AGAIN = ("55P03", "40P01", _CANCELED)
#: How often a statement may take too long because the machine is busy.
_TOO_LONG = 20

app = typer.Typer(
    help="Bring the ledger's tables to this release's revision.", no_args_is_help=True, pretty_exceptions_enable=False
)


def upgrade(database_url: str, tell: Callable[[str], None] = lambda _: None) -> tuple[str | None, str]:
    """Run the missing migrations; returns the revision before (None: an empty database) and after.

    Args:
        tell: called now and then with what a migration waits for.
    """
    engine = _engine(database_url)
    with _alone(engine):
        with engine.connect() as connection:
            before = _current(connection)
            check_ground(connection, before)
        for revision in _missing(before):
            _run_patiently(engine, revision, is_first=before is None, tell=tell)
    engine.dispose()
    return before, head()


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


def _missing(before: str | None) -> list[str]:
    """The revisions to come, the first one first; none if the database has one of a later release."""
    revisions = [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]
    if before is None:
        return revisions
    return revisions[revisions.index(before) + 1 :] if before in revisions else []


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


def current(database_url: str) -> str | None:
    """The database's revision; None if it has never been migrated."""
    engine = _engine(database_url)
    try:
        with engine.connect() as connection:
            return _current(connection)
    finally:
        engine.dispose()


def head() -> str:
    """The revision that this release's code expects."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


@app.command("upgrade")
def upgrade_command() -> None:
    """Run the missing migrations."""
    before, after = _or_exit(lambda: upgrade(load(StoreSettings).database_url, lambda line: write(line, err=True)))
    if before == after:
        write(say("ledger is at revision {revision}", revision=after))
    else:
        was = before or say("empty")
        write(say("ledger is at revision {revision} (was {was})", revision=after, was=was))


@app.command("check")
def check_command() -> None:
    """Exit 0 if the ledger is at this release's revision or a later one, 1 if not."""
    revision = _or_exit(lambda: current(load(StoreSettings).database_url))
    if not _is_reached(revision):
        write(
            say(
                "ledger is at revision {revision}, this release needs {head}: run `ledgerq-migrate upgrade`",
                revision=revision or say("none"),
                head=head(),
            )
        )
        raise typer.Exit(1)
    write(say("ledger is at revision {revision}", revision=revision))


@app.command("wait")
def wait_command(
    timeout: Annotated[float, typer.Option(help="Seconds to wait before giving up.")] = 300.0,
) -> None:
    """Wait until another process has brought the ledger to this release's revision."""
    deadline = time.monotonic() + timeout
    database_url = _or_exit(lambda: load(StoreSettings)).database_url
    while not _reached_quietly(database_url):
        if time.monotonic() > deadline:
            late = say("ledger has not reached revision {head} within {timeout:g} s", head=head(), timeout=timeout)
            write(late, err=True)
            raise typer.Exit(1)
        time.sleep(0.5)
    write(say("ledger is at revision {revision}", revision=head()))


@app.command("doctor")
def doctor_command(
    url: Annotated[str | None, typer.Argument(help="Another PostgreSQL than that of DATABASE_URL.")] = None,
) -> None:
    """Say what in a PostgreSQL fails or should be changed. Changes nothing. Exit 0: nothing fails, 1: something
    does.
    """
    # What only the doctor needs would add a tenth to the time that a migration takes to begin.
    from ledgerq_shared.doctor import Verdict, examine
    from ledgerq_shared.doctor.verdicts import table
    from ledgerq_shared.postgres.replica import open_replica

    if url is not None:
        os.environ["DATABASE_URL"] = url
        os.environ.setdefault("REDIS_URL", "redis://localhost")  # it is not used
    stores = _or_exit(lambda: load(StoreSettings))
    configure(LogSettings(log_level="error"), service="doctor")  # an outage is reported below, in one line
    database = Database(
        stores.database_url, application_name="ledgerq-doctor", size=1, keeps_statements=True, is_brief=True
    )
    replica = open_replica(stores, database, application_name="ledgerq-doctor", size=1, statement_timeout=5.0)
    try:
        findings = list(examine(database, require_sync=stores.ledgerq_require_sync, replica=replica))
    except LedgerQError as error:
        complain("ledgerq-migrate", error.said)
        raise typer.Exit(2) from None
    finally:
        database.close()
    typer.echo(table(findings))
    if any(one.verdict is Verdict.FAILS for one in findings):
        raise typer.Exit(1)


def _is_reached(revision: str | None) -> bool:
    """A later revision than ours is fine, too: migrations only expand, so old code runs on the new schema."""
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    return revision == head() or (revision is not None and revision not in known)


def _reached_quietly(database_url: str) -> bool:
    try:
        return _is_reached(current(database_url))
    except sqlalchemy.exc.OperationalError:
        return False


Outcome = TypeVar("Outcome")


def _or_exit(action: Callable[[], Outcome]) -> Outcome:
    """Errors are for people: one line and exit 2 for a bad setting, a server that is away, or anything that the server
    refuses.
    """
    try:
        return action()
    except SettingsError as error:
        why = error.said
    except sqlalchemy.exc.OperationalError as error:
        why = say("PostgreSQL cannot be reached: {what}", what=_first_line(error))
    except sqlalchemy.exc.DBAPIError as error:
        code = getattr(error.orig, "pgcode", None)
        why = say("PostgreSQL does not take this: {what} (SQLSTATE {code})", what=_first_line(error), code=code)
    except CommandError as error:  # Alembic's own error: a table of versions that it cannot read
        why = say("the table alembic_version is not LedgerQ's: {what}", what=error)
    complain("ledgerq-migrate", why)
    raise typer.Exit(2)


def _first_line(error: sqlalchemy.exc.DBAPIError) -> str:
    return describe(error.orig) if isinstance(error.orig, psycopg2.Error) else str(error.orig)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def _current(connection: sqlalchemy.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


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


def main() -> None:
    """Entry point of ``ledgerq-migrate``."""
    run_app(app, "ledgerq-migrate")


if __name__ == "__main__":
    main()
