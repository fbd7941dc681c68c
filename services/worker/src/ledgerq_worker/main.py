"""``ledgerq-worker run | maintenance | register``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer
from celery.exceptions import SoftTimeLimitExceeded

from ledgerq_shared.errors import LedgerQError
from ledgerq_shared.languages import say
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.postgres.durability import check_durability
from ledgerq_shared.process import output
from ledgerq_shared.process.commands import complain, run_app, write
from ledgerq_shared.process.logging import configure
from ledgerq_shared.revision import check_revision_if_reachable
from ledgerq_shared.settings import LogSettings, SettingsError, StoreSettings, load
from ledgerq_worker.catalogue.registry import TaskTypeError
from ledgerq_worker.catalogue.task_modules import TaskModuleError
from ledgerq_worker.settings import MaintenanceSettings, WorkerSettings
from ledgerq_worker.slot.legs import log_fields, print_fields

cli = typer.Typer(
    help="Run tasks, keep the ledger in order, or fill the catalogue of task types.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Outcome = TypeVar("Outcome")


@cli.command()
def run(
    concurrency: Annotated[int | None, typer.Option(help="Slots; LEDGERQ_WORKER_CONCURRENCY unless given.")] = None,
    pool: Annotated[str | None, typer.Option(help="prefork, threads or solo.")] = None,
    queues: Annotated[str | None, typer.Option(help="Queues to serve, comma separated.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of this node.")] = None,
    reload: Annotated[
        bool | None, typer.Option("--reload/--no-reload", help="Start anew on an edit of the task modules.")
    ] = None,
) -> None:
    """Run a worker node."""

    def start() -> None:
        from ledgerq_worker.node.worker import run_worker

        options = {"worker_concurrency": concurrency, "worker_pool": pool, "worker_queues": queues, "worker_name": name}
        given = {key: value for key, value in options.items() if value is not None}
        settings = WorkerSettings(**given)  # type: ignore[arg-type]
        if settings.worker_reload if reload is None else reload:
            from ledgerq_worker.reloading import Reloader

            variables = {f"LEDGERQ_{key.upper()}": str(value) for key, value in given.items()}
            raise typer.Exit(Reloader(settings, variables).run())
        stores = load(StoreSettings)
        _check_ledger(stores)
        run_worker(stores, settings, load(LogSettings))

    load_or_exit(
        lambda: configure(
            load(LogSettings),
            service="worker",
            context=log_fields,
            prints=print_fields,
            interruptions=(SoftTimeLimitExceeded,),
        )
    )
    load_or_exit(lambda: load(WorkerSettings))
    load_or_exit(start)


@cli.command()
def maintenance() -> None:
    """Keep the ledger in order: promote, recover, expire, prune. Any number may run; one leads."""

    def start() -> None:
        from ledgerq_worker.maintenance.main import run_maintenance

        stores = load(StoreSettings)
        _check_ledger(stores)
        run_maintenance(stores, load(MaintenanceSettings), load(LogSettings))

    load_or_exit(lambda: configure(load(LogSettings), service="maintenance", prints=dict))
    load_or_exit(start)


@cli.command()
def register(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Write the task types of all task modules into the catalogue, so that they can be submitted."""

    def start() -> None:
        from ledgerq_worker.registering import register_catalogue

        stores = load(StoreSettings)
        _check_ledger(stores)
        names, changed = register_catalogue(stores, load(WorkerSettings))
        if as_json:
            typer.echo(json.dumps({"task_types": names, "changed": changed}))
        else:
            write(say("{count} task types registered, {changed} new or changed", count=len(names), changed=changed))

    load_or_exit(lambda: configure(load(LogSettings), service="register"))
    load_or_exit(start)


def _check_ledger(stores: StoreSettings) -> None:
    """Refuse tables that are older than this code, and a PostgreSQL that confirms commits which too few standbys have.
    PostgreSQL may come later: everything here waits for it.
    """
    database = Database(stores.database_url, application_name="ledgerq-worker", size=1)
    check_revision_if_reachable(database)
    check_durability(database, stores.ledgerq_require_sync)
    database.close()


def load_or_exit(action: Callable[[], Outcome]) -> Outcome:
    """Run ``action``; errors are for people: one line and exit 2 for a wrong setting, module or server."""
    try:
        return action()
    except (SettingsError, TaskModuleError, TaskTypeError) as error:
        why: str = error.said
    except LedgerQError as error:
        why = error.said
    complain("ledgerq-worker", why)
    raise typer.Exit(2)


def main() -> None:
    """Entry point of ``ledgerq-worker``."""
    output.guard()
    run_app(cli, "ledgerq-worker")


if __name__ == "__main__":
    main()
