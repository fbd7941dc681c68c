"""What a key may be allowed to do."""

from __future__ import annotations

from enum import StrEnum


class KeyScope(StrEnum):
    """A permission of an API key."""

    READ = "tasks:read"
    SUBMIT = "tasks:submit"
    CONTROL = "tasks:control"
    #: Includes all others.
    ADMIN = "admin"
