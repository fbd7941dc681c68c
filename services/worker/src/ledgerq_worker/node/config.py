"""The configuration that a worker's parent gives its lease agent."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class NodeConfig:
    """It is sent once, when the agent starts."""

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
    #: The slot table's open file: a descriptor that the agent inherits. None: the agent opens it by its path.
    table_handle: int | None = None
    heartbeat_file: str | None = None
    #: Whether programs that a task has started end with the task's process.
    kills_programs: bool = True
    #: How the parent logs (`LogSettings`): so does the agent.
    log_level: str = "info"
    log_format: str = "auto"
    debug: bool = False
    #: Task types that must not run a second time if a task came as a Celery message.
    acknowledged: list[str] = field(default_factory=list)
