"""A file whose age shows whether a process is at work: a liveness probe can read it with nothing but a shell.

It says nothing about PostgreSQL or Redis: a restart because a store is away would only do more harm.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from ledgerq_shared.languages import reason

log = structlog.get_logger()

#: Seconds between two beats. A probe should allow for many missed beats, because a machine may be busy.
_EVERY = 1.0


class Heartbeat:
    """Touches a file about once a second, in a thread of its own, as long as `is_well` says so.

    The thread asks nothing else, so that a store that does not answer cannot stop it.

    Args:
        path: the file; None: there is none, and nothing is done.
        is_well: asked before each beat.
    """

    def __init__(self, path: Path | None, is_well: Callable[[], bool]) -> None:
        self._path = path
        self._is_well = is_well

    def start(self) -> None:
        """Start to beat, until the end of the process."""
        if self._path is not None:
            threading.Thread(target=self._beat, args=[self._path], name="heartbeat", daemon=True).start()

    def _beat(self, path: Path) -> None:
        failed = False
        while True:
            try:
                if self._is_well():
                    path.touch()
                failed = False
            except OSError as error:
                if not failed:
                    log.warning("heartbeat.failed", path=str(path), error=error.strerror)
                failed = True
            time.sleep(_EVERY)


def first_beat(path: Path | None) -> None:
    """Touch the file once, so that a path that cannot be used is noticed before anything else happens.

    Raises:
        SettingsError: it cannot be written.
    """
    if path is None:
        return
    try:
        path.touch()
    except OSError as error:
        # The lease agent does without the settings' library, so that it begins sooner.
        from ledgerq_shared.settings import SettingsError

        raise SettingsError(
            "LEDGERQ_HEARTBEAT_FILE={path} cannot be written: {why}", path=path, why=reason(error)
        ) from None
