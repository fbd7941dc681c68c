"""``ledgerq-migrate upgrade | check | wait | doctor``: bring the ledger's tables to this release's revision.

:mod:`ledgerq_shared.migrations.running` runs what is missing; it is safe while other processes migrate or work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Annotated, TypeVar

import psycopg2
import typer

from ledgerq_shared.connecting import connect, describe
from ledgerq_shared.errors import LedgerQError
from ledgerq_shared.languages import say
from ledgerq_shared.migrations import revisions
from ledgerq_shared.process.commands import complain, run_app, write
from ledgerq_shared.settings import LogSettings, SettingsError, StoreSettings, load

app = typer.Typer(
    help="Bring the ledger's tables to this release's revision.", no_args_is_help=True, pretty_exceptions_enable=False
)


def upgrade(database_url: str, tell: Callable[[str], None] = lambda _: None) -> tuple[str | None, str]:
    """Run the missing migrations; returns the revision before (None: an empty database) and after.

    Args:
        tell: called now and then with what a migration waits for.
    """
    if current(database_url) == head():
        return head(), head()
    # SQLAlchemy and Alembic take longer to load than all else here, and most starts find nothing to do.
    from ledgerq_shared.migrations.running import run_missing

    return run_missing(database_url, tell), head()


def current(database_url: str) -> str | None:
    """The database's revision; None if it has never been migrated."""
    connection = connect(database_url, application_name="ledgerq-migrate", connect_timeout=5)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = 0")
            cursor.execute("SELECT to_regclass('alembic_version') IS NOT NULL")
            if cursor.fetchone() == (False,):
                return None
            cursor.execute("SELECT alembic_version.version_num FROM alembic_version")
            found = cursor.fetchall()
    finally:
        connection.close()
    if len(found) > 1:
        raise SettingsError("the table alembic_version is not LedgerQ's: it has {count} revisions", count=len(found))
    return str(found[0][0]) if found else None


def head() -> str:
    """The revision that this release's code expects."""
    return revisions()[-1]


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
    # What only the doctor needs would double the time that the other commands take to begin.
    from ledgerq_shared.doctor import Verdict, examine
    from ledgerq_shared.doctor.verdicts import table
    from ledgerq_shared.postgres.database import Database
    from ledgerq_shared.postgres.replica import open_replica
    from ledgerq_shared.process.logging import configure

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
    return revision == head() or (revision is not None and revision not in revisions())


def _reached_quietly(database_url: str) -> bool:
    try:
        return _is_reached(current(database_url))
    except psycopg2.OperationalError:
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
    except psycopg2.OperationalError as error:
        why = say("PostgreSQL cannot be reached: {what}", what=describe(error))
    except psycopg2.Error as error:
        why = say("PostgreSQL does not take this: {what} (SQLSTATE {code})", what=describe(error), code=error.pgcode)
    complain("ledgerq-migrate", why)
    raise typer.Exit(2)


def main() -> None:
    """Entry point of ``ledgerq-migrate``."""
    run_app(app, "ledgerq-migrate")


if __name__ == "__main__":
    main()
