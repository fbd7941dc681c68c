"""Task ids in addresses. A Celery producer may have given its task any id, even one with slashes.

A slash within an id arrives as ``%2F``; in the server's `path` it looks like a slash between segments. So it is
replaced by a character that no text has, until the id is taken out of the path.
"""

from __future__ import annotations

from urllib.parse import unquote

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.types import Scope

#: A code point that Unicode reserves, so that no text contains it.
SLASH = "\ufdd0"


def task_id_of(segment: str) -> str:
    """The id that a segment of a path stands for."""
    return segment.replace(SLASH, "/")


class _TaskIdConvertor(StringConvertor):
    def convert(self, value: str) -> str:
        return task_id_of(value)


register_url_convertor("task_id", _TaskIdConvertor())


def shown(path: str) -> str:
    """A path for people: slashes of an id appear as they were sent."""
    return path.replace(SLASH, "%2F")


def keep_slashes(scope: Scope) -> None:
    """Mark in the path the slashes that are part of a task's id. To be called if the raw path has a ``%2``."""
    path: str = scope["path"]
    if path.startswith("/tasks/"):
        raw = scope["raw_path"].decode("latin-1").replace("%2F", SLASH).replace("%2f", SLASH)
        kept = unquote(raw)[-len(path) :]  # without the prefix that a proxy adds
        if kept.replace(SLASH, "/") == path:
            scope["path"] = kept
