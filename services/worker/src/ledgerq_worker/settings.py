"""Settings of a worker node and of a maintenance process."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field, FiniteFloat, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ledgerq_shared.languages import say


def split_names(text: str) -> list[str]:
    """The names of a comma-separated list, without blanks."""
    return [name.strip() for name in text.split(",") if name.strip()]


class WorkerSettings(BaseSettings):
    """One worker node: a Celery parent process, its pool, and its lease agent."""

    model_config = SettingsConfigDict(env_prefix="LEDGERQ_", extra="ignore")

    task_modules: str = Field("", description="Modules that define tasks, comma separated.")
    celery_app: str | None = Field(None, description="An existing Celery application, as `package.module:app`.")
    worker_name: str | None = Field(None, description="Name of this node; `host:pid` unless set.")
    worker_queues: str = Field("default", description="Queues that this node serves, comma separated.")
    worker_concurrency: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=1, le=512, description="Slots: how many tasks run at once."
    )
    worker_pool: Literal["prefork", "threads", "solo"] = Field("prefork", description="Celery's execution pool.")
    worker_reload: bool = Field(
        False,
        description="For development: start anew on an edit of a Python file of the task modules or below the current "
        "folder. Running tasks may end before, within the grace period.",
    )
    lease_seconds: FiniteFloat = Field(
        10.0, ge=1, description="A node not heard of for this long is declared dead, in seconds."
    )
    grace_seconds: FiniteFloat = Field(
        30.0, ge=0, description="How long running tasks may go on after SIGTERM, in seconds."
    )
    claim_budget: FiniteFloat = Field(0.05, gt=0, description="Expected run time that one claim may hold, in seconds.")
    claim_limit: int = Field(500, ge=1, le=1000, description="Most tasks that one claim may hold.")
    drain_seconds: FiniteFloat = Field(
        1.0, gt=0, description="After this long a drain passes its ticket on, in seconds."
    )
    quarantine_after: int = Field(3, ge=1, description="Worker deaths after which a task is quarantined.")
    on_worker_lost: Literal["celery", "rerun", "fail"] = Field(
        "celery",
        description="What a worker's death means for a running task that came as a Celery message (`delay`, `apply_async`) "
        "and whose type declares no `on_worker_lost`. `celery`: as in Celery, it fails with `WorkerLostError`, unless "
        "`acks_late` and `reject_on_worker_lost` (or `retry_on_worker_lost`) say that it runs again. `rerun`: all run "
        "again. `fail`: all fail.",
    )
    events_per_second: FiniteFloat = Field(
        100.0,
        ge=0,
        description="Most tasks a second of a node that are shown to Flower and others that listen for Celery's events; "
        "the rest is left out there, never in the ledger; failures have a share of their own. Flower takes as many new ones "
        "a second from the ledger itself. 0: none.",
    )
    kill_programs: bool = Field(
        True,
        description="Whether programs that a task started end with it, when its pool process is killed (hard time limit, "
        "`terminate`, end of the grace period) or dies. Daemons go on.",
    )
    progress_interval: FiniteFloat = Field(
        0.1, ge=0, description="Least time between two progress records of a task, in seconds."
    )
    heartbeat_file: Path | None = Field(
        None,
        description="File touched about once a second while this process is at work, for a probe that looks at its age.",
    )

    @field_validator("worker_pool", mode="before")
    @classmethod
    def _supported(cls, pool: object) -> object:
        if pool in ("gevent", "eventlet"):
            raise ValueError(say("{pool} is not supported: use prefork, threads or solo", pool=pool))
        return pool

    @property
    def queues(self) -> list[str]:
        """The queues served, in order."""
        return split_names(self.worker_queues) or ["default"]

    @property
    def slots(self) -> int:
        """How many tasks run at once; the solo pool has one slot."""
        return 1 if self.worker_pool == "solo" else self.worker_concurrency

    @property
    def name(self) -> str:
        """The node's name, unique among live nodes unless set by hand."""
        return self.worker_name or f"{socket.gethostname()}:{os.getpid()}"

    @property
    def celery_name(self) -> str:
        """The node's name in Celery, as Flower shows it."""
        return f"ledgerq@{self.name.replace(':', '-')}"


class MaintenanceSettings(BaseSettings):
    """A maintenance process: any number may run, one leads."""

    model_config = SettingsConfigDict(env_prefix="LEDGERQ_", extra="ignore")

    task_modules: str = Field("", description="Modules that define tasks, comma separated.")
    celery_app: str | None = Field(None, description="An existing Celery application, as `package.module:app`.")
    lease_seconds: FiniteFloat = Field(
        10.0, ge=1, description="A node not heard of for this long is declared dead, in seconds."
    )
    leader_seconds: FiniteFloat = Field(4.0, ge=1, description="The leader's lease, in seconds.")
    sweep_seconds: FiniteFloat = Field(0.5, gt=0, description="Time between two sweeps of the ledger, in seconds.")
    quarantine_after: int = Field(3, ge=1, description="Worker deaths after which a task is quarantined.")
    idempotency_hours: FiniteFloat = Field(
        24.0, gt=0, description="For how long an `Idempotency-Key` is remembered, in hours."
    )
    heartbeat_file: Path | None = Field(
        None,
        description="File touched about once a second while this process is at work, for a probe that looks at its age.",
    )
