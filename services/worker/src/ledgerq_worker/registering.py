"""Fills the catalogue from the task modules, so that submits are checked correctly even before any worker lives."""

from __future__ import annotations

from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.settings import StoreSettings
from ledgerq_shared.statements.catalogue import CatalogueEntry, register_task_types
from ledgerq_worker.catalogue.registry import TaskTypeSpec, task_types
from ledgerq_worker.celery.app import build_app
from ledgerq_worker.settings import WorkerSettings
from ledgerq_worker.slot.encoding import to_json


def register_catalogue(stores: StoreSettings, settings: WorkerSettings) -> tuple[list[str], int]:
    """Register every task type; returns their names and how many are new or changed."""
    app = build_app(
        stores,
        celery_app=settings.celery_app,
        task_modules=settings.task_modules,
        default_queue=settings.queues[0],
    )
    specs = task_types(app)
    database = Database(stores.database_url, application_name="ledgerq-register", size=1, is_brief=True)
    try:
        return [spec.name for spec in specs], write_catalogue(database, specs)
    finally:
        database.close()


def write_catalogue(database: Database, specs: list[TaskTypeSpec]) -> int:
    """Add or update these task types; returns how many changed."""
    entries = [
        CatalogueEntry(spec.name, spec.doc, to_json(spec.parameters_schema), spec.queue, to_json(spec.options))
        for spec in specs
    ]
    with database.transaction() as cursor:
        return len(execute(cursor, register_task_types(entries)))
