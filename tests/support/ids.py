"""What an id says to people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID


def time_of(task_id: UUID) -> datetime:
    """When a UUIDv7 was made, in whole milliseconds, by its maker's clock."""
    assert task_id.version == 7
    # Whole numbers: a float of seconds loses milliseconds.
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=task_id.int >> 80)
