"""What the API says about task types."""

from __future__ import annotations

from datetime import UTC

from ledgerq_api.catalogue import TaskType
from ledgerq_api.catalogue_source import CatalogueSource
from ledgerq_api.ledger import Ledger
from ledgerq_api.task_types.schemas import TaskTypeEntry, TaskTypeList
from ledgerq_shared.statements.catalogue import live_workers_by_type


class TaskTypeService:
    """Shows the catalogue and who serves it."""

    def __init__(self, ledger: Ledger, catalogue: CatalogueSource) -> None:
        self._ledger = ledger
        self._catalogue = catalogue

    async def list_all(self) -> TaskTypeList:
        """All types; the list may be empty."""
        catalogue = await self._catalogue.latest()
        workers = await self._live_workers()
        entries = [_entry(task_type, workers) for task_type in catalogue.types.values()]
        return TaskTypeList(task_types=entries, total_count=len(entries))

    async def show(self, name: str) -> TaskTypeEntry:
        """One type.

        Raises:
            TaskTypeNotFound
        """
        catalogue = await self._catalogue.latest()
        return _entry(catalogue.show(name), await self._live_workers())

    async def _live_workers(self) -> dict[str, list[str]]:
        return dict(await self._ledger.fetch(live_workers_by_type()))


def _entry(task_type: TaskType, workers: dict[str, list[str]]) -> TaskTypeEntry:
    return TaskTypeEntry(
        name=task_type.name,
        doc=task_type.doc,
        parameters_schema=task_type.schema,
        queue=task_type.queue,
        options=task_type.options,
        live_workers=workers.get(task_type.name, []),
        registered_at=task_type.registered_at.astimezone(UTC),
        updated_at=task_type.updated_at.astimezone(UTC),
    )
