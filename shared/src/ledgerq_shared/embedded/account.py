"""The system user that runs PostgreSQL when we are root, and places it can reach.

PostgreSQL refuses to run as root. An existing unprivileged user runs it instead: no user is created, and no mode of a
folder outside of ours is changed. Files that this user cannot reach (a clone under a private home) are put below
``/var/lib`` instead.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledgerq_shared.embedded.errors import EmbeddedError
from ledgerq_shared.languages import say

_CANDIDATES = ("postgres", "ledgerq", "nobody", "daemon")
_STATE = Path("/var/lib")


@dataclass(frozen=True)
class Account:
    """The user that runs the server; ``uid`` None means the present user."""

    name: str
    uid: int | None = None
    gid: int | None = None

    @classmethod
    def choose(cls) -> Account:
        """Return ourselves, or an unprivileged system user when we are root."""
        if os.geteuid() != 0:
            return cls(name="")
        for name in _CANDIDATES:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            if entry.pw_uid != 0:
                return cls(name, entry.pw_uid, entry.pw_gid)
        raise EmbeddedError("PostgreSQL does not run as root, and this system has no user 'postgres' or 'nobody'")

    def spawn_options(self) -> dict[str, Any]:
        """Return the keyword arguments of ``subprocess`` that run a program as this account."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give a file or folder of ours to this account."""
        if self.uid is not None:
            os.chown(path, self.uid, -1 if self.gid is None else self.gid)

    def reaches(self, folder: Path) -> bool:
        """True when this account may enter ``folder``."""
        return self.uid is None or self._succeeds(["test", "-x", str(folder)])

    def runs(self, program: Path) -> bool:
        """True when this account can execute ``program``, libraries included."""
        return self._succeeds([str(program), "--version"])

    def _succeeds(self, command: list[str]) -> bool:
        try:
            outcome = subprocess.run(
                command, cwd="/", check=False, capture_output=True, timeout=60, **self.spawn_options()
            )
        except OSError:
            return False
        return outcome.returncode == 0


def reachable_folder(folder: Path, account: Account, note: Path) -> Path:
    """Create and return ``folder``, or a substitute below /var/lib if ``account`` cannot reach it.

    The substitute is written to ``note`` (inside ``.ledgerq``), which later starts follow, so that data do
    not move when modes change.
    """
    if note.exists():
        return Path(note.read_text().strip())
    _make_open(folder)
    if account.reaches(folder):
        return folder
    substitute = elsewhere(folder)
    _make_open(substitute)
    note.write_text(f"{substitute}\n")
    return substitute


def elsewhere(folder: Path) -> Path:
    """Return the place below /var/lib that stands for ``folder``: the same on every start."""
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    return _STATE / f"ledgerq-{name}"


def reachable_programs(programs: Path, account: Account, copies: Path) -> Path:
    """Return ``programs`` (a folder with bin/, lib/, share/), or a copy that ``account`` can execute."""
    if _run(programs, account):
        return programs
    # The programs find their libraries by relative path, in a folder beside the wheel's package.
    package = programs.parent
    copy = copies / package.name / programs.name
    if not _run(copy, account):
        _make_open(copies)
        for source in (programs, package.with_name(f"{package.name}.libs")):
            if source.is_dir():
                _copy_open(source, copies / source.relative_to(package.parent))
    if not _run(copy, account):
        raise EmbeddedError(
            "PostgreSQL's programs do not run here as {user}: {programs}",
            user=account.name or say("this user"),
            programs=copy,
        )
    return copy


def _run(programs: Path, account: Account) -> bool:
    return account.runs(programs / "bin" / "postgres") and account.runs(programs / "bin" / "initdb")


def _make_open(folder: Path) -> None:
    """Make a folder of ours that others may enter, whatever the umask; its parents keep their modes."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)


def _copy_open(source: Path, target: Path) -> None:
    """Copy a tree so that everybody can read it: an install made under umask 077 would stay unreadable."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)
    target.parent.chmod(0o755)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
