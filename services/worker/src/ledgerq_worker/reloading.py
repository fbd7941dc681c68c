"""A worker for development: it is started anew when a file of the task modules is edited.

The new code is registered first. If it cannot even be imported, the reason is printed and the worker goes on with the
old code. Otherwise the old worker ends as it does at SIGTERM: running tasks may end within the grace period, or go back
uncharged. Only then does the next one start, because both would have the same ports and name.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import structlog

from ledgerq_worker.catalogue.task_modules import module_names
from ledgerq_worker.settings import WorkerSettings

log = structlog.get_logger()

#: Seconds between two looks at the files. An edit counts when the next look finds no other one.
_LOOK_EVERY = 0.5
#: Folders in which nobody edits tasks; those whose names begin with a dot are left out, too.
_OTHERS = {"__pycache__", "node_modules", "site-packages", "venv"}

#: A file's time of change and size.
Snapshot = dict[str, tuple[int, int]]


class Reloader:
    """Keeps a worker at work, and replaces it after an edit.

    Args:
        options: the worker's settings that were given on the command line, as environment variables.
    """

    def __init__(self, settings: WorkerSettings, options: dict[str, str]) -> None:
        self._places = _places(settings)
        # The child, and what registers, must not reload by themselves.
        self._environment = {**os.environ, **options, "LEDGERQ_WORKER_RELOAD": "false"}
        self._child: subprocess.Popen[bytes] | None = None
        self._is_stopping = False

    def run(self) -> int:
        """Run until a signal ends it, or the worker ends by itself; returns the worker's exit code."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._pass_on)
        files = snapshot(self._places)
        self._start()
        while (code := self._code()) is None:
            time.sleep(_LOOK_EVERY)
            now = snapshot(self._places)
            if now != files and not self._is_stopping:
                now = self._settled(now)
                changed = sorted({path for path, _ in files.items() ^ now.items()})
                files = now
                if changed:
                    self._reload(changed)
        return code

    def _reload(self, changed: list[str]) -> None:
        log.warning("worker.reload", changed=changed[0], files=len(changed))
        command = [sys.executable, "-P", "-m", "ledgerq_worker", "register"]
        if subprocess.run(command, env=self._environment, stdout=subprocess.DEVNULL, check=False).returncode:
            log.error("worker.reload.refused", what="the worker goes on with the code before the edit")
            return
        assert self._child is not None
        self._child.send_signal(signal.SIGTERM)
        self._child.wait()
        if not self._is_stopping:
            self._start()

    def _start(self) -> None:
        # In a session of its own, so that Ctrl-C reaches it once, through us.
        command = [sys.executable, "-P", "-m", "ledgerq_worker", "run"]
        self._child = subprocess.Popen(command, env=self._environment, start_new_session=True)
        if self._is_stopping:  # a signal that came meanwhile
            self._child.send_signal(signal.SIGTERM)

    def _code(self) -> int | None:
        assert self._child is not None
        return self._child.poll()

    def _settled(self, files: Snapshot) -> Snapshot:
        while True:
            time.sleep(_LOOK_EVERY)
            now = snapshot(self._places)
            if now == files:
                return files
            files = now

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        self._is_stopping = True
        if self._child is not None:
            self._child.send_signal(number)


def snapshot(places: list[Path]) -> Snapshot:
    """The Python files at these places, which are files or folders, with their times."""
    found: Snapshot = {}
    for place in places:
        for path in _files(place):
            try:
                status = os.stat(path)  # noqa: PTH116 - there may be thousands
            except OSError:  # it has gone
                continue
            found[path] = status.st_mtime_ns, status.st_size
    return found


def _files(place: Path) -> Iterator[str]:
    if place.is_file():
        yield str(place)
    for folder, folders, files in os.walk(place):
        folders[:] = [name for name in folders if not (name.startswith(".") or name in _OTHERS)]
        yield from (f"{folder}/{name}" for name in files if name.endswith(".py"))


def _places(settings: WorkerSettings) -> list[Path]:
    """The current folder, and the task modules that stand elsewhere. Nothing is imported for this."""
    names = module_names(settings.task_modules)
    if settings.celery_app:
        names.append(settings.celery_app.partition(":")[0])
    places = [Path.cwd()]
    for top in {name.partition(".")[0] for name in names}:
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            continue
        if spec is not None:
            folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
            places += folders or [Path(spec.origin or "")]
    return [place for place in places if place == places[0] or not place.is_relative_to(places[0])]
