"""Looks after the connections of a pool, once a second: how long each has been in one use, or unused, and whether a
server process works on it.

A leader that was replaced may still answer TCP: its machine is frozen, or a device in between goes on to acknowledge
what is sent. A process that waits for it would wait until a watchdog ends the leader. So the pool asks over another
connection. If the server says that it is working on the statement, it may take as long as it likes; if no server knows
the statement, the connection is closed.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Protocol

import psycopg2.extensions
import structlog

from ledgerq_shared.postgres.prepared import Session

log = structlog.get_logger()

#: Between two looks, in seconds. Looks are counted and not seconds, so that a process that was frozen itself does not
#: blame a server.
LOOK_EVERY = 1.0
#: Server processes that are at work: they run a statement, or received something a moment ago. (A server that shows its
#: sessions to nobody is believed to work.) Behind a pooler, the server knows none of these numbers, and the answer is
#: null.
_AT_WORK = """
SELECT CASE WHEN pg_backend_pid() = %(own)s THEN ARRAY(
  SELECT pid FROM pg_stat_activity
  WHERE pid = ANY (%(pids)s) AND application_name = current_setting('application_name')
    AND (coalesce(state, '') NOT LIKE 'idle%%' OR state_change > clock_timestamp() - %(lately)s * interval '1 second')) END
"""
_LATELY = 4.0
_CANCEL = """
SELECT pg_cancel_backend(pid) FROM pg_stat_activity
WHERE pid = %(pid)s AND application_name = current_setting('application_name')
"""


class Looks:
    """Counts for how many looks in a row each connection has been in the same use, or unused."""

    def __init__(self) -> None:
        self._seen: dict[Session, tuple[int, int]] = {}

    def count(self, connections: Iterable[Session]) -> dict[Session, int]:
        """Look at all connections; returns, by connection, how many looks in a row have found it in this use. 1: this
        is the first.
        """
        before = self._seen
        self._seen = {}
        for connection in connections:
            uses, looks = before.get(connection, (-1, 0))
            self._seen[connection] = (connection.uses, looks + 1 if uses == connection.uses else 1)
        return {connection: looks for connection, (_, looks) in self._seen.items()}


def at_work(asking: psycopg2.extensions.connection, silent: Iterable[Session]) -> set[Session]:
    """Those of ``silent`` whose server process is at work; all of them, if that cannot be told.

    Args:
        asking: a new connection to the server that is the primary now.

    Raises:
        psycopg2.Error: it does not answer.
    """
    by_pid = {connection.info.backend_pid: connection for connection in silent}
    with asking.cursor() as cursor:
        params = {"own": asking.info.backend_pid, "pids": list(by_pid), "lately": _LATELY}
        cursor.execute(_AT_WORK, params)
        [(pids,)] = cursor.fetchall()
    return set(by_pid.values()) if pids is None else {by_pid[pid] for pid in pids}


def cancel(asking: psycopg2.extensions.connection, waiting: Session) -> None:
    """End what the server process of ``waiting`` does. This does nothing behind a pooler, whose process numbers mean
    nothing to the server.

    Raises:
        psycopg2.Error: no server answers.
    """
    with asking.cursor() as cursor:
        cursor.execute(_CANCEL, {"pid": waiting.info.backend_pid})


class _Pool(Protocol):
    def look(self) -> None: ...


def look_after(pool: _Pool) -> None:
    """Let ``pool`` look once a second, in a thread that ends when nothing refers to the pool any more."""
    threading.Thread(target=_keep_looking, args=[weakref.ref(pool)], name="upkeep", daemon=True).start()


def _keep_looking(found: Callable[[], _Pool | None]) -> None:
    while True:
        time.sleep(LOOK_EVERY)
        pool = found()
        if pool is None:
            return
        try:
            pool.look()
        except Exception:
            log.exception("database.upkeep.failed")
        del pool
