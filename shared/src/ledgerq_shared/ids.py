"""Task ids: UUID version 7, so that primary-key order is submission order and inserts stay at the index's end."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_lock = threading.Lock()
_last = 0

#: Random bytes still to be used. Asking the kernel for eight at a time is most of an id's cost, and gives up the
#: interpreter's lock each time.
_random = bytearray()
_RANDOM_BYTES = 4096


def _after_fork() -> None:
    """A child must not make the ids that its parent is about to make, nor wait for a thread that it does not have."""
    global _lock  # noqa: PLW0603 - see _last
    _random.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def new_task_id() -> UUID:
    """A new UUIDv7. Ids made by one process are strictly increasing, also within a millisecond (RFC 9562, method 3)."""
    global _last  # noqa: PLW0603 - one counter per process is the point
    # 48 bits of milliseconds followed by 12 bits of the millisecond's fraction: about 0.25 µs of resolution.
    nanoseconds = time.time_ns()
    stamp = (nanoseconds // 1_000_000 << 12) | (nanoseconds % 1_000_000 * 4096 // 1_000_000)
    with _lock:
        _last = stamp = max(stamp, _last + 1)
        if not _random:
            _random.extend(os.urandom(_RANDOM_BYTES))
        random = int.from_bytes(_random[-8:], "big") & 0x3FFF_FFFF_FFFF_FFFF
        del _random[-8:]
    return UUID(int=(stamp >> 12) << 80 | 7 << 76 | (stamp & 0xFFF) << 64 | 2 << 62 | random)


def time_of(task_id: UUID) -> datetime | None:
    """When a UUIDv7 was made (UTC, whole milliseconds), by its maker's clock; ``None`` for any other id."""
    if task_id.version != 7:
        return None
    # Whole numbers: a float of seconds loses milliseconds.
    return _EPOCH + timedelta(milliseconds=task_id.int >> 80)


def first_id_at(moment: datetime) -> UUID:
    """The smallest UUIDv7 of that moment: turns a time range into a range of the primary key."""
    return UUID(int=(moment - _EPOCH) // timedelta(milliseconds=1) << 80 | 7 << 76 | 2 << 62)
