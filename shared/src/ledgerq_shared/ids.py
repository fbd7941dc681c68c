"""Task ids: UUID version 7, so that primary-key order is submission order and inserts stay at the index's end.

The standard gives 62 of their bits no meaning. The first ten of these say which ledger made the id, its *cell*; the
other 52 are random.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from msgspec import convert

from ledgerq_shared import clock

_VARIANT = 2 << 62
_RANDOM_BITS = 52
#: How many hexadecimal digits at the end of two ids are equal, if they were made for the same delivery of a message.
SAME_DELIVERY = 12
#: How many ledgers ids can name; an installation with only one ledger uses cell 0.
CELLS = 1024
_pack = struct.Struct(">QQ").pack

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_lock = threading.Lock()
_last = 0
#: The clock's number of corrections when the last id was made.
_corrections = 0
#: Variant and cell, in place.
_cell = _VARIANT

#: Random bytes that are still unused. To ask the kernel for eight at a time would be most of an id's cost, and would
#: release the interpreter's lock each time.
_random = bytearray()
_RANDOM_BYTES = 4096


def _after_fork() -> None:
    """A forked child must not make the ids that its parent is about to make, nor wait for a lock whose thread it does
    not have.
    """
    global _lock  # noqa: PLW0603 - see _last
    _random.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def use_cell(number: int) -> None:
    """From now on, the ids that this process makes name this cell. To be called where settings are read, before any id
    is made.
    """
    global _cell  # noqa: PLW0603 - a process makes ids for one ledger
    if not 0 <= number < CELLS:
        raise ValueError(f"a cell is a number from 0 to {CELLS - 1}, not {number}")
    _cell = _VARIANT | number << _RANDOM_BITS


def is_of_this_cell(task_id: UUID) -> bool:
    """Whether an id could be of this process's ledger. Cell 0 accepts any UUIDv7: before ids had cells these bits were
    random, and nobody can tell such an id from another cell's.
    """
    return task_id.version == 7 and (_cell == _VARIANT or cell_of(task_id) == _cell >> _RANDOM_BITS & CELLS - 1)


def cell_of(task_id: UUID) -> int:
    """The cell that a UUIDv7 names. In an id that is older than cells, it means nothing: ask that cell first, then cell
    0.
    """
    return task_id.int >> _RANDOM_BITS & CELLS - 1


def new_task_id() -> UUID:
    """A new UUIDv7. Ids made by one process are strictly increasing, also within a millisecond (RFC 9562, method 3)."""
    return new_task_ids(1)[0]


def new_task_ids(count: int) -> list[UUID]:
    """``count`` new ids, in order, as :func:`new_task_id` makes them; each costs a tenth."""
    size = 8 * count
    with _lock:
        first = _take_stamps(count)
        if len(_random) < size:
            _random.extend(os.urandom(max(size, _RANDOM_BYTES)))
        random = bytes(_random[-size:]) if size else b""
        del _random[len(_random) - size :]
    cell = _cell
    halves = zip(range(first, first + count), struct.unpack(f">{count}Q", random), strict=True)
    # Made from bytes, because UUID's own constructor takes longer than all the rest.
    return convert([_pack(_high(stamp), cell | low >> 64 - _RANDOM_BITS) for stamp, low in halves], list[UUID])


def task_id_of_delivery(delivery: str) -> UUID:
    """A new UUIDv7 that tells by its random bits (:data:`SAME_DELIVERY`) which delivery of a message it was made for."""
    digest = hashlib.blake2b(delivery.encode(errors="surrogatepass"), digest_size=8).digest()
    with _lock:
        stamp = _take_stamps(1)
    return convert(_pack(_high(stamp), _cell | int.from_bytes(digest) >> 64 - _RANDOM_BITS), UUID)


def _take_stamps(count: int) -> int:
    """The first of ``count`` times that are this process's own: 48 bits of milliseconds followed by 12 bits of the
    millisecond's fraction (about 0.25 µs). The caller holds the lock.
    """
    global _last, _corrections  # noqa: PLW0603 - one counter per process is the point
    beyond = clock.beyond_monotonic
    nanoseconds = time.time_ns() if beyond is None else time.monotonic_ns() + beyond
    stamp = (nanoseconds // 1_000_000 << 12) | (nanoseconds % 1_000_000 * 4096 // 1_000_000)
    if _corrections != clock.corrections:  # earlier ids may have a time that is still to come
        _corrections, _last = clock.corrections, 0
    first = max(stamp, _last + 1)
    _last = first + count - 1
    return first


def _high(stamp: int) -> int:
    """An id's first 64 bits: time, version, fraction of the time."""
    return (stamp >> 12) << 16 | 7 << 12 | stamp & 0xFFF


def time_of(task_id: UUID) -> datetime | None:
    """When a UUIDv7 was made (UTC, whole milliseconds), by its maker's clock; ``None`` for any other id."""
    if task_id.version != 7:
        return None
    # Integers, because a float of seconds loses milliseconds.
    return _EPOCH + timedelta(milliseconds=task_id.int >> 80)


def first_id_at(moment: datetime) -> UUID:
    """The smallest UUIDv7 of that moment: it turns a time range into a range of the primary key."""
    return UUID(int=(moment - _EPOCH) // timedelta(milliseconds=1) << 80 | 7 << 76 | 2 << 62)
