"""The shared file of a node's slots: where it lies, and who has it open."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import tempfile
from pathlib import Path

from ledgerq_shared.languages import reason, told
from ledgerq_shared.process.descriptors import identity

_PREFIX = "ledgerq-node-"


class SlotFile:
    """A file in memory that processes share. Create it in the worker's parent; elsewhere open it by its path, or by an
    inherited descriptor (because somebody may have deleted the file at that path).

    Each process that has it open holds a lock on it, which the kernel releases when the process dies. So a file that
    nobody has locked belonged to a node that was killed together with its agent. Process numbers would not show this,
    because containers may share the folder.

    Args:
        size: in bytes.
        handle: a descriptor of it that is open; None: it is opened by its path.
    """

    def __init__(self, path: Path, size: int, handle: int | None = None) -> None:
        self.path = path
        self._handle = os.open(path, os.O_RDWR) if handle is None else handle
        self._file = identity(self._handle)
        fcntl.flock(self._handle, fcntl.LOCK_SH)  # held as long as the map, which keeps the file open
        self._map = mmap.mmap(self._handle, size)

    def remove(self) -> None:
        """Delete the file; processes that have it open keep it."""
        self.path.unlink(missing_ok=True)
        if self.handle is not None:
            os.close(self._handle)

    @property
    def handle(self) -> int | None:
        """The descriptor of the open file, to be inherited; None: a task has closed it, or put something else in its
        place.
        """
        return self._handle if identity(self._handle) == self._file else None

    @property
    def is_at_its_path(self) -> bool:
        """Whether the file can be opened by its path: somebody may have deleted it, or put another file there."""
        try:
            status = self.path.stat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._file

    def is_shared_with(self, pid: int) -> bool:
        """Whether a process has this table in its memory. A node's own processes do, even if their parent is gone; a
        process that got the number of a dead one does not. (If the system does not tell, the answer is yes.)
        """
        status = os.fstat(self._handle) if self.handle is not None else None
        try:
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            return not Path("/proc/self/maps").exists()
        except PermissionError:  # we may not signal it, either
            return True
        if status is None:
            return any(str(self.path) in line for line in lines)
        return any(_PREFIX in line and line.split()[4] == str(status.st_ino) for line in lines)


def make_file(size: int) -> tuple[Path, int]:
    """A new file of so many bytes, with its open descriptor; it is in memory if the system has a folder for that with room
    in it.

    Raises:
        SettingsError: there is room in no folder.
    """
    memory = Path("/dev/shm")  # noqa: S108 - the file in it has a random name and mode 600
    refusals = []
    for folder in (memory, Path(tempfile.gettempdir())):
        try:
            return _make_in(folder, size)
        except OSError as error:
            refusals.append(f"{folder}: {told(reason(error))}")
    # The lease agent makes no file, and does without the settings' library, so that it begins sooner.
    from ledgerq_shared.settings import SettingsError

    raise SettingsError(
        "no room for the worker's slot file of {size:,} bytes ({listed}): make some, or name another folder in TMPDIR",
        size=size,
        listed="; ".join(refusals),
    )


def _make_in(folder: Path, size: int) -> tuple[Path, int]:
    _remove_orphans(folder)
    while True:
        handle, name = tempfile.mkstemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=folder)
        fcntl.flock(handle, fcntl.LOCK_SH)
        if os.fstat(handle).st_nlink:
            break
        os.close(handle)  # a process that looks for orphans was quicker
    try:
        # Allocates the pages and not only the length: a write to a page for which a full disk has no room would be
        # a SIGBUS.
        os.posix_fallocate(handle, 0, size)
    except OSError:
        Path(name).unlink(missing_ok=True)
        os.close(handle)
        raise
    return Path(name), handle


def _remove_orphans(folder: Path) -> None:
    """Delete the tables that nobody has open."""
    for path in folder.glob(f"{_PREFIX}*-*"):
        with contextlib.suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
