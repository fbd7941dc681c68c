"""Random passwords of the embedded servers, made once and kept in files that only their owner reads."""

import os
import secrets
from pathlib import Path


def kept_password(path: Path) -> str:
    """Return the password in ``path``, made on first use."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        password = secrets.token_urlsafe(24)
        write_private(path, password)
        return password


def write_private(path: Path, text: str) -> None:
    """Write ``text`` to a file of mode 0600, which is never more open than that, not even for a moment."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
