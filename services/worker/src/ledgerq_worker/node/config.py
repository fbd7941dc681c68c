"""What a worker's parent tells its lease agent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NodeConfig:
    """Said once, on starting it."""

    database_url: str
    broker_url: str
    name: str
    host: str
    parent_pid: int
    pool: str
    slots: int
    queues: list[str]
    task_types: list[str]
    lease: float
    quarantine_after: int
    table: str
    #: The same, open: a descriptor that the agent inherits. None: to be opened by its path.
    table_handle: int | None = None
    heartbeat_file: str | None = None
    #: Whether what a task has started ends with its process.
    kills_programs: bool = True
